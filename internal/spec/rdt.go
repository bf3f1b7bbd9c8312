package spec

// IntelRdt is a container's share of the processors' caches and of the bandwidth to memory: linux.intelRdt
// of the OCI runtime specification 1.3, with the same JSON.
type IntelRdt struct {
	Class      string   `json:"closID,omitempty"`           // empty: one of the container's own; "/": what all others share
	L3         string   `json:"l3CacheSchema,omitempty"`    // "L3:0=7f0;1=1f"
	Bandwidth  string   `json:"memBwSchema,omitempty"`      // "MB:0=20;1=70"
	Schemata   []string `json:"schemata,omitempty"`         // lines of any resource, written last
	Monitoring bool     `json:"enableMonitoring,omitempty"` // what the container uses is counted apart
}
