package registry

import "strings"

// challenge is one way in which a server wants to be authenticated to (RFC 9110, section
// 11.6.1). Names are in lower case.
type challenge struct {
	scheme string // "bearer", "basic"
	params map[string]string
}

// parseChallenges reads WWW-Authenticate headers, each of which may hold several
// challenges. What does not fit the grammar ends that header, keeping what came before.
func parseChallenges(headers []string) []challenge {
	var list []challenge
	for _, h := range headers {
		p := challengeParser{rest: h}
		for {
			p.skipCommas()
			scheme := p.token()
			if scheme == "" {
				break
			}
			ch := challenge{scheme: strings.ToLower(scheme), params: map[string]string{}}
			p.params(ch.params)
			list = append(list, ch)
		}
	}
	return list
}

// pick returns the best challenge: a token says less to the server than a password does.
func pick(list []challenge) (challenge, bool) {
	for _, scheme := range []string{"bearer", "basic"} {
		for _, ch := range list {
			if ch.scheme == scheme {
				return ch, true
			}
		}
	}
	return challenge{}, false
}

type challengeParser struct{ rest string }

func (p *challengeParser) skipCommas() { p.rest = strings.TrimLeft(p.rest, ", \t") }

func (p *challengeParser) token() string {
	n := 0
	for n < len(p.rest) && isTokenByte(p.rest[n]) {
		n++
	}
	t := p.rest[:n]
	p.rest = p.rest[n:]
	return t
}

// params reads name=value pairs until the next challenge begins or the grammar ends.
func (p *challengeParser) params(into map[string]string) {
	for {
		p.skipCommas()
		before := p.rest
		name := p.token()
		p.rest = strings.TrimLeft(p.rest, " \t")
		rest, ok := strings.CutPrefix(p.rest, "=")
		if name == "" || !ok {
			p.rest = before // the next challenge's scheme, or nonsense
			return
		}
		p.rest = strings.TrimLeft(rest, " \t")
		value, ok := p.value()
		if !ok {
			p.rest = ""
			return
		}
		if _, twice := into[strings.ToLower(name)]; !twice {
			into[strings.ToLower(name)] = value
		}
	}
}

// value reads a token or a quoted string.
func (p *challengeParser) value() (string, bool) {
	if !strings.HasPrefix(p.rest, `"`) {
		v := p.token()
		return v, v != ""
	}
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			p.rest = p.rest[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(p.rest):
			i++
			b.WriteByte(p.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// isTokenByte: RFC 9110, section 5.6.2.
func isTokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
