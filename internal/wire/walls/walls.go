// Package walls finds rules of others that stop what the host forwards: those of Docker, ufw, firewalld, or
// somebody's own.
//
// A packet passes only if no table drops it, so rules of ours cannot let through what a chain of another drops
// in the hook forward. Who made that has to be asked, and this package knows how. A chain is a wall if
// its policy or its last rule drops what nothing before has let through, and no rule of its table names the
// bridge of the container.
package walls

import (
	"bytes"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/cortenhq/corten/internal/errs"
)

// Wall is a table whose rules stop what is forwarded from and to a bridge.
type Wall struct {
	Owner  Owner
	Family string // of nftables: ip, ip6, inet; of the old iptables: ip, ip6
	Table  string
	Chain  string
	Legacy bool // it is one of iptables-legacy
}

// Owner is who made a table, as far as it shows.
type Owner string

// The owners that are known.
const (
	Docker    Owner = "Docker"
	UFW       Owner = "ufw"
	Firewalld Owner = "firewalld"
	Somebody  Owner = ""
)

// Look finds the walls around a bridge in the network namespace of the calling thread.
func Look(bridge string) ([]Wall, error) {
	found := legacy(bridge)
	c, err := nftables.New()
	if err != nil {
		return found, errs.Wrap("open", "nftables", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return found, errs.Wrap("list", "chains of nftables", err)
	}
	for _, ch := range chains {
		if family := familyOf(ch.Table); family == "" || ch.Hooknum == nil || *ch.Hooknum != *nftables.ChainHookForward || ch.Type != nftables.ChainTypeFilter {
			continue
		}
		t := table{chains: slices.DeleteFunc(slices.Clone(chains), func(o *nftables.Chain) bool {
			return o.Table.Name != ch.Table.Name || o.Table.Family != ch.Table.Family
		})}
		t.read(c)
		if t.drops(ch) && !t.names(bridge) {
			found = append(found, Wall{Owner: t.owner(ch.Table.Name), Family: familyOf(ch.Table), Table: ch.Table.Name, Chain: ch.Name})
		}
	}
	return found, nil
}

// familyOf is the word for a family that forwards packets of IP; our own tables have none.
func familyOf(t *nftables.Table) string {
	if t.Name == "corten" || strings.HasPrefix(t.Name, "corten-") {
		return ""
	}
	switch t.Family {
	case nftables.TableFamilyIPv4:
		return "ip"
	case nftables.TableFamilyIPv6:
		return "ip6"
	case nftables.TableFamilyINet:
		return "inet"
	}
	return ""
}

// table is what a table has.
type table struct {
	chains []*nftables.Chain
	rules  map[string][]*nftables.Rule
}

// read reads its rules. What cannot be read is as if it were not there.
func (t *table) read(c *nftables.Conn) {
	t.rules = map[string][]*nftables.Rule{}
	for _, ch := range t.chains {
		t.rules[ch.Name], _ = c.GetRules(ch.Table, ch)
	}
}

func (t *table) drops(ch *nftables.Chain) bool {
	if ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop {
		return true
	}
	rules := t.rules[ch.Name]
	return len(rules) > 0 && always(rules[len(rules)-1])
}

// always reports whether a rule drops or rejects whatever comes to it.
func always(r *nftables.Rule) bool {
	drops := false
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Counter, *expr.Log, *expr.Limit:
		case *expr.Reject:
			drops = true
		case *expr.Verdict:
			drops = e.Kind == expr.VerdictDrop
		default:
			return false
		}
	}
	return drops
}

// names reports whether a rule is about the bridge, or about interfaces whose names begin like its.
func (t *table) names(bridge string) bool {
	for _, rules := range t.rules {
		for _, r := range rules {
			name := false // the register has the name of an interface
			for _, e := range r.Exprs {
				switch e := e.(type) {
				case *expr.Meta:
					name = e.Key == expr.MetaKeyIIFNAME || e.Key == expr.MetaKeyOIFNAME
				case *expr.Cmp:
					if name && e.Op == expr.CmpOpEq && means(e.Data, bridge) {
						return true
					}
				}
			}
		}
	}
	return false
}

// means reports whether the name of an interface in a rule is this one: without a 0 it is how names begin.
func means(data []byte, bridge string) bool {
	name, _, whole := bytes.Cut(data, []byte{0})
	if whole {
		return string(name) == bridge
	}
	return len(name) > 0 && strings.HasPrefix(bridge, string(name))
}

func (t *table) owner(name string) Owner {
	if name == "firewalld" {
		return Firewalld
	}
	for _, ch := range t.chains {
		switch ch.Name {
		case "DOCKER-USER":
			return Docker
		case "ufw-before-forward", "ufw6-before-forward":
			return UFW
		}
	}
	return Somebody
}
