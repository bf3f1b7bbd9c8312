package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/errs"
)

const (
	helperPrefix  = "docker-credential-"
	helperTimeout = time.Minute // it may ask a person for a passphrase
	maxHelperTalk = 64 << 10    // bytes of output that are kept
	tokenUser     = "<token>"   // the user name that says the secret is a refresh token
)

// ask runs a credential helper by the protocol of docker-credential-helpers: the server's
// name on its standard input, a JSON object on its standard output. No credentials is not
// an error.
func (k Keychain) ask(ctx context.Context, name, server string) (Credential, error) {
	const op = "ask credential helper"
	program := helperPrefix + name
	if strings.ContainsAny(name, "/\x00") {
		return Credential{}, errs.Newf(errs.Invalid, op, clean(program), "the name of a helper has no slash")
	}
	path, err := exec.LookPath(program)
	if err != nil {
		return Credential{}, errs.Newf(errs.NotFound, op, clean(program), "it is not in PATH").
			WithHint("install it, or log in again without it")
	}
	limit := k.HelperTimeout
	if limit <= 0 {
		limit = helperTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("it did not answer within "+limit.String()))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "get")
	cmd.WaitDelay = time.Second // for a child of the helper that keeps the pipe open
	out := &limitedBuffer{}
	cmd.Stdin, cmd.Stdout = strings.NewReader(server), out
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return Credential{}, errs.New(errs.Unavailable, op, program, cause)
		}
		said := strings.TrimSpace(out.b.String())
		if said == "credentials not found in native keychain" {
			return Credential{}, nil
		}
		return Credential{}, errs.Newf(errs.Unavailable, op, program, helperMessage(err, said))
	}
	var answer struct{ Username, Secret string }
	if json.Unmarshal(out.b.Bytes(), &answer) != nil { // its error could quote the secret
		return Credential{}, errs.Newf(errs.Corrupt, op, program, "its answer is not the JSON object of the protocol")
	}
	if answer.Username == tokenUser {
		return Credential{IdentityToken: Secret(answer.Secret)}, nil
	}
	return Credential{Username: answer.Username, Password: Secret(answer.Secret)}, nil
}

// helperMessage passes on what a failing helper said, unless it looks like an answer.
func helperMessage(err error, said string) string {
	text := err.Error()
	if said != "" && !strings.ContainsAny(said, "{}") {
		text += ": " + clean(said)
	}
	return text
}

// limitedBuffer keeps the first bytes and lets the rest pass.
type limitedBuffer struct{ b bytes.Buffer }

func (l *limitedBuffer) Write(p []byte) (int, error) {
	l.b.Write(p[:min(len(p), maxHelperTalk-l.b.Len())])
	return len(p), nil
}
