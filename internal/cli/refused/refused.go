// Package refused knows the flags of Docker's and Podman's run that Corten does not have, so
// that each is refused by name, with something else to do.
package refused

import "github.com/cortenhq/corten/internal/errs"

// Refusal is a flag of Docker's run that Corten has not built, or never will.
type Refusal struct {
	Name, Short string
	why         string // empty: not built yet
	hint        string
}

const windows = "only for Windows"

// Flags is all of them.
func Flags() []Refusal {
	return []Refusal{
		{"annotation", "", "", "use --label"},
		{"cgroup-parent", "", "", "all containers are in the control group corten"},
		{"cpu-count", "", windows, "use --cpus"},
		{"cpu-percent", "", windows, "use --cpus"},
		{"disable-content-trust", "", "there is no content trust to disable", "leave it out"},
		{"gpus", "", "", "give the container the devices: --device /dev/dri"},
		{"io-maxbandwidth", "", windows, "use --device-read-bps and --device-write-bps"},
		{"io-maxiops", "", windows, "use --device-read-iops and --device-write-iops"},
		{"isolation", "", windows, "leave it out"},
		{"kernel-memory", "", "Linux 5.11 took this limit away", "use --memory, which counts the kernel's memory too"},
		{"link", "", "", "put both on a network of their own, where they find each other by name: corten network create NAME, then --network NAME"},
		{"link-local-ip", "", "the kernel gives each interface one, for IPv6", "leave it out, or choose an address with --ip or --ip6"},
		{"runtime", "", "", "corten starts containers itself"},
		{"use-api-socket", "", "there is no daemon and so no socket", "leave it out"},
		{"volume-driver", "", "", "a volume is a folder of Corten's own; use a bind mount for one elsewhere"},
		{"volumes-from", "", "", "give both containers the same named volume: -v NAME:TARGET"},
		// Podman's.
		{"env-host", "", "", "name the variables: -e NAME"},
		{"pod", "", "", "start the containers one by one"},
		{"replace", "", "", "remove the old container first"},
		{"rootfs", "", "", "import the folder as an image first"},
		{"secret", "", "", "mount a file: -v ./secret:/run/secrets/NAME:ro"},
		{"timeout", "", "", "use timeout(1): timeout 60 corten run ..."},
		{"tz", "", "", "set the variable: -e TZ=Europe/Paris"},
	}
}

// Flag is the error for a flag of Docker's that Corten does not have, by its name or
// its letter; nil if it is no such flag.
func Flag(name string) error {
	for _, r := range Flags() {
		if r.Name != name && r.Short != name || name == "" {
			continue
		}
		why := r.why
		if why == "" {
			why = "not built yet"
		}
		flag := "--" + r.Name
		if r.Short != "" {
			flag = "-" + r.Short + ", " + flag
		}
		return errs.Newf(errs.Unsupported, "", flag, why).WithHint(r.hint)
	}
	return nil
}
