package main

import (
	"os"
	"path/filepath"

	"github.com/cortenhq/corten/internal/testimage"
)

// runtimes is the programs with the command line of an OCI runtime; run is that of a bundle.
func (r *bench) runtimes() []peer {
	own := filepath.Join(filepath.Dir(r.corten), "corten-oci")
	list := []peer{{name: "corten-oci", needs: []need{{own, "make build"}}, version: []command{command(own + " --version")},
		run: command(own + " --root {run} run --bundle {bundle} {id}")}}
	for _, p := range r.peers() {
		if (p.name == "crun" || p.name == "runc") && r.whom.MatchString(p.name) {
			list = append(list, p)
		}
	}
	return list
}

// benchOCI measures what a container of one and the same bundle costs: at once, and as container
// engines have it, by three commands.
func benchOCI(s *scope) []*table {
	values := s.material(testimage.True(s), "true")
	script := filepath.Join(values["bundle"], "life")
	s.must(os.WriteFile(script, []byte(`"$1" --root "$2" create --bundle "$3" "$4" </dev/null && "$1" --root "$2" start "$4" && "$1" --root "$2" delete --force "$4"`), 0o644))
	atOnce := &table{Name: "oci-run", Title: "an OCI runtime's run of a bundle, static true", Metrics: []metric{wallMs, peakMB}}
	apart := &table{Name: "oci-create", Title: "create, start and delete of the same", Metrics: []metric{wallMs, peakMB}}
	for _, t := range []*table{atOnce, apart} {
		var cs []*contender
		for _, p := range s.runtimes() {
			line := p.run
			if t == apart {
				line = command("/bin/sh {bundle}/life " + p.needs[0].path + " {run} {bundle} {id}")
			}
			cs = append(cs, s.contend(t, p, values, line))
		}
		s.rounds(cs)
		s.peaks(cs)
	}
	return []*table{atOnce, apart}
}
