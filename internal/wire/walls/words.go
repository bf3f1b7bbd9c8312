package walls

import "slices"

// Name is what a wall is called in a sentence.
func (w Wall) Name() string {
	if w.Owner != Somebody {
		return "the rules of " + string(w.Owner)
	}
	if w.Legacy {
		return "the chain FORWARD of " + w.tool()
	}
	return "the chain " + w.Chain + " of the table " + w.Family + " " + w.Table
}

// tool is the program that such rules are changed with.
func (w Wall) tool() string {
	tool := "iptables"
	if w.Family == "ip6" {
		tool = "ip6tables"
	}
	if w.Legacy {
		tool += "-legacy"
	}
	return tool
}

// Open are commands that let through what a bridge has to send and to get.
func (w Wall) Open(bridge string) []string {
	switch {
	case w.Owner == UFW:
		return []string{"ufw route allow in on " + bridge, "ufw route allow out on " + bridge}
	case w.Owner == Firewalld:
		return []string{"firewall-cmd --permanent --zone=trusted --add-interface=" + bridge, "firewall-cmd --reload"}
	case w.Owner == Docker:
		return []string{w.tool() + " -I DOCKER-USER -i " + bridge + " -j ACCEPT", w.tool() + " -I DOCKER-USER -o " + bridge + " -j ACCEPT"}
	case w.Legacy, w.Chain == "FORWARD" && w.Table == "filter" && w.Family != "inet": // made by iptables
		return []string{w.tool() + " -I FORWARD -i " + bridge + " -j ACCEPT", w.tool() + " -I FORWARD -o " + bridge + " -j ACCEPT"}
	}
	rule := "nft insert rule " + w.Family + " " + w.Table + " " + w.Chain
	return []string{rule + ` iifname "` + bridge + `" accept`, rule + ` oifname "` + bridge + `" accept`}
}

// Words says who stops what, and what would let it through.
func Words(found []Wall, bridge string) (who, open []string) {
	for _, w := range found {
		if !slices.Contains(who, w.Name()) {
			who = append(who, w.Name())
		}
		for _, c := range w.Open(bridge) {
			if !slices.Contains(open, c) {
				open = append(open, c)
			}
		}
	}
	return who, open
}
