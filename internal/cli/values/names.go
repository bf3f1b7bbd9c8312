package values

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

// ValidName reports whether a container may be called s; Docker's rule. A volume too.
func ValidName(s string) bool {
	if len(s) < 2 || len(s) > 253 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '_' && c != '.' && c != '-') {
			return false
		}
	}
	return true
}

// Two lists of words make 10,000 names.
const (
	qualities = `able amber ample apt ashen balmy bold brave breezy bright brisk broad burly calm civil clear
clever coastal cold cool coral crisp curly daring dark deep dry dusky eager early easy even fair fast fine firm
fleet fond fresh gentle glad golden good grand grey happy hardy hasty hearty humble idle jolly keen kind large
late lean light lively loud loyal lucky mellow merry mild misty modest neat nimble noble old pale plain polite
prime proud quick quiet rapid ready robust rosy rough royal rusty sandy sharp shiny silent silver simple sleek
slow smart smooth snug solid sound spry stark still stout strong sturdy sunny sure swift tall taut tidy
trim true upbeat vast warm wide windy wise young`
	things = `alloy anchor anvil barge beam berth billet boiler bolt bosun bow brass breeze brig bronze buoy
cable capstan cargo chain chrome clipper cobalt compass copper coral crane cutter davit deck derrick dinghy dock
dredge ferry fender flange fleet foundry funnel galley gantry gasket girder gunwale halyard harbour hatch haven
hawser helm hoist hull ingot iron jetty keel ketch lantern latch levee lever lighter lock lugger magnet mast
mooring mortar nickel oar pier pilot pinnace piston plank pontoon port pulley pump purser quay rigging rivet
rudder schooner seam sextant shackle sheave skiff slipway spar spindle starboard steel stern sloop tackle
tiller tin titan trawler tug turbine valve vessel wharf winch windlass wire yard yawl zinc`
)

// RandomName makes up a name such as "brisk_girder".
func RandomName() string {
	q, t := strings.Fields(qualities), strings.Fields(things)
	return q[rand.IntN(len(q))] + "_" + t[rand.IntN(len(t))]
}

// OtherName makes up another name after one was taken; the number makes it rare.
func OtherName() string { return RandomName() + strconv.Itoa(10+rand.IntN(9990)) }
