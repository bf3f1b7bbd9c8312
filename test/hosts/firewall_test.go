package hosts_test

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// load loads rules of somebody else.
func (m *machine) load(load, rules string) {
	m.t.Helper()
	cmd := exec.Command("sh", "-ec", load)
	cmd.Stdin = strings.NewReader(rules)
	if out, err := m.output(cmd); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
}

// theirs are the tables that are not Corten's, without counters.
func (m *machine) theirs() string {
	m.t.Helper()
	return m.sh(`nft list tables | grep -v ' corten' | while read table family name; do nft -s list table $family $name; done`)
}

// passage is what the doctor says of others' rules.
func (m *machine) passage() string {
	return strings.TrimSpace(m.try("doctor", "--format", `{{range .Features}}{{if eq .Name "passage"}}{{.Answer}}{{end}}{{end}}`))
}

// TestReloaded has somebody load his rules again while a container runs, as a restart of nftables.service, ufw or
// Docker does. His are as he wrote them, and ours are there again after the next command.
func TestReloaded(t *testing.T) {
	t.Parallel()
	for _, o := range others() {
		t.Run(o.name, func(t *testing.T) {
			if o.tool == "" {
				t.Skip("nothing to load")
			}
			if _, err := exec.LookPath(o.tool); err != nil {
				t.Skip("needs ", o.tool)
			}
			a, b, _ := newLan(t)
			a.load(o.load, o.rules)
			a.hosts()
			a.corten("run", "--rm", "--network", "bridge", "host", "true")
			a.unchanged()
			open := "bridge=" + a.bridge() + "; " + o.open
			if o.open != "" {
				if got := a.passage(); got != "no" {
					t.Errorf("the doctor says %q", got)
				}
				a.sh(open)
			}
			if got := a.passage(); got != "yes" {
				t.Errorf("when containers are let through, the doctor says %q", got)
			}
			want := a.theirs()
			a.corten(box("-d --name web --network bridge -p 8080:80", "serve", "80")...)
			for _, f := range families {
				a.ready(f.tcp, at(a.addressOf("web", f.tcp), 80))
				b.sees(f.tcp, at(f.a, 8080), f.b)
			}
			ours := a.sh(`nft -s list table inet $(nft list tables | sed -n 's/^table inet \(corten.*\)/\1/p')`)
			for _, flush := range []string{"nft flush ruleset", "nft list tables | grep -v ' corten' | while read t f n; do nft delete table $f $n; done"} {
				a.sh(flush)
				a.load(o.load, o.rules)
				if o.open != "" {
					a.sh(open)
				}
				a.until("rules made again", soon, func() error {
					a.corten("ps")
					if now := a.perhaps(`nft -s list table inet $(nft list tables | sed -n 's/^table inet \(corten.*\)/\1/p')`); now != ours {
						return errors.New("ours are not as they were:\n" + difference(ours, now))
					}
					return nil
				})
				if now := a.theirs(); now != want {
					t.Errorf("theirs are not as they were:\n%s", difference(want, now))
				}
				for _, f := range families {
					b.sees(f.tcp, at(f.a, 8080), f.b)
				}
			}
			a.corten("rm", "-f", "web")
			if now := a.theirs(); now != want {
				t.Errorf("in the end theirs are not as they were:\n%s", difference(want, now))
			}
			a.until("nothing of ours", soon, func() error {
				left := a.sh("nft list tables | grep ' corten' || true; ip link | grep "+a.bridge()+" || true") + strings.Join(a.processes(), "")
				if left != "" {
					return errors.New(left)
				}
				return nil
			})
			a.before = a.state() // their rules have other handles than before
		})
	}
}

// perhaps is sh for what may fail.
func (m *machine) perhaps(lines string) string {
	out, _ := m.output(exec.Command("sh", "-c", lines))
	return out
}

// TestRespected has published ports obey the rules that ufw makes: what it allows, and from whom.
func TestRespected(t *testing.T) {
	t.Parallel()
	a, b, router := newLan(t)
	for _, o := range others() {
		if o.name == "like ufw" {
			if _, err := exec.LookPath(o.tool); err != nil {
				t.Skip("needs ", o.tool)
			}
			a.load(o.load, o.rules)
			a.sh("echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter") // as ufw has it
		}
	}
	a.hosts()
	a.corten("network", "create", "--ipv6", "--opt", "firewall=respect", "blue")
	bridge := a.sh(`sed 's/.*"bridge": *"\([^"]*\)".*/\1/' ` + a.root + "/networks/blue.json | tr -d '\n'")
	a.sh("iptables -A ufw-user-forward -o " + bridge + " -j ACCEPT; iptables -A ufw-user-forward -i " + bridge + " -j ACCEPT")
	a.before = a.state()
	a.corten(box("-d --name web --network blue -p 8080:80 -p 8080:80/udp", "serve", "80")...)
	a.ready("tcp4", at(a.addressOf("web", "tcp4"), 80))
	b.sealed("tcp4", at(a4, 8080))
	b.sealed("udp4", at(a4, 8080))
	a.sees("tcp4", at(a4, 8080), "")
	a.sees("tcp4", at("127.0.0.1", 8080), "")
	b.sees("tcp6", at(a6, 8080), b6) // nobody has rules for IPv6 here
	rule := "ufw-user-input -p tcp -s " + b4 + " --dport 8080 -j ACCEPT"
	a.sh("iptables -A " + rule)
	b.sees("tcp4", at(a4, 8080), b4)
	b.sealed("udp4", at(a4, 8080))
	router.sealed("tcp4", at(a4, 8080))
	a.sh("iptables -D " + rule)
	b.sealed("tcp4", at(a4, 8080))
	a.corten("rm", "-f", "web")
}
