package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cortenhq/corten/internal/testimage"
)

// benchExec measures the execution of true in a container that sleeps.
func benchExec(s *scope) []*table {
	t := &table{Name: "exec", Title: "exec of true in a running container", Metrics: []metric{wallMs, peakMB}}
	values := s.material(testimage.Busybox(s), "busybox")
	config := runtimeConfig(values["rootfs"], s.deviceRules())
	config["process"].(map[string]any)["args"] = []string{"/bin/sleep", "3600"}
	raw, err := json.Marshal(config)
	s.must(errors.Join(err, os.WriteFile(filepath.Join(values["bundle"], "config.json"), raw, 0o644)))
	var cs []*contender
	for _, p := range s.chosen(func(p peer) bool { return p.exec != "" }) {
		values["name"] = fmt.Sprint("bench-exec", s.serial.Add(1))
		c := s.contend(t, p, values, p.exec)
		if c.row.Note == "" {
			c.row.Note = s.try(func() {
				_, err := s.exec(c.session.argv(p.up))
				s.must(err)
			})
		}
		cs = append(cs, c)
	}
	s.rounds(cs)
	s.peaks(cs)
	return []*table{t}
}
