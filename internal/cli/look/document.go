package look

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cortenhq/corten/internal/engine"
	"github.com/cortenhq/corten/internal/plan"
	"github.com/cortenhq/corten/internal/spec"
)

// document is a container in the form of Docker's inspect, which scripts of many years read. It
// is made of spec.Container and of what is known of the container, and never read.
type document struct {
	ID      string `json:"Id"`
	Created time.Time
	Path    string
	Args    []string
	State   stateDoc
	Image   string
	Name    string
	filesDoc
	Mounts          []mountDoc
	Config          configDoc
	NetworkSettings networkDoc
	HostConfig      hostDoc
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      *int64 `json:",omitempty"`
	Corten          ownDoc
}

type filesDoc struct {
	LogPath         string
	RestartCount    int
	Driver          string
	Platform        string
	AppArmorProfile string
	GraphDriver     struct {
		Name string
		Data map[string]string
	}
}

type stateDoc struct {
	Status     string
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  time.Time
	FinishedAt time.Time
	Health     json.RawMessage
}

type mountDoc struct {
	Type        spec.MountType
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

type configDoc struct {
	Hostname   string
	Domainname string
	User       string
	streamsDoc
	Env          []string
	Cmd          []string
	Image        string
	Volumes      map[string]struct{}
	ExposedPorts map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	Labels       map[string]string
	StopSignal   string
	StopTimeout  *int
	Healthcheck  *healthDoc
}

type streamsDoc struct{ Tty, OpenStdin, StdinOnce bool }

type healthDoc struct {
	Test                                          []string      `json:",omitempty"`
	Interval, Timeout, StartPeriod, StartInterval time.Duration `json:",omitempty"`
	Retries                                       int           `json:",omitempty"`
}

// ownDoc is what Docker has no names for.
type ownDoc struct {
	Spec    *spec.Container
	State   any
	Keeper  int               `json:",omitempty"`
	Log     map[string]string `json:",omitempty"` // what was counted of a log that could not be written
	Groups  []string          `json:",omitempty"`
	Upper   string
	UserMap []spec.IDMap `json:",omitempty"`
}

// surroundings is what a document has of other things than the container.
type surroundings struct {
	volume  func(name string) string // where it is
	network func(name string) string // its id
	wiring  *engine.Wiring           // how the container is connected; nil: it is not
}

// newDocument translates a container.
func newDocument(c engine.Container, f engine.ContainerFacts, x surroundings) document {
	s, st := c.Spec, c.State
	d := document{
		ID: string(s.ID), Created: s.Created, Args: []string{},
		State: stateDoc{
			Status: c.Word(), Running: st.Alive(), Paused: c.Paused, Restarting: st.Status == engine.ContainerRestarting,
			OOMKilled: st.OOM, Pid: st.PID, ExitCode: st.ExitCode, Error: st.Message,
			StartedAt: st.Started.UTC(), FinishedAt: st.Finished.UTC(), Health: f.Health,
		},
		Image: s.Image.Config, Name: "/" + s.Name,
		Mounts: []mountDoc{},
		Config: configDoc{
			Hostname: s.Namespaces.Hostname, Domainname: s.Namespaces.Domainname, User: s.Process.User,
			streamsDoc: streamsDoc{s.Process.Terminal, s.Process.Stdin, s.Process.StdinOnce}, Env: s.Process.Env, Image: s.Image.Name, Volumes: volumesDoc(s), ExposedPorts: exposedDoc(s),
			WorkingDir: s.Process.Cwd, Labels: s.Labels, StopSignal: s.Life.StopSignal, StopTimeout: s.Life.StopTimeout,
			Healthcheck: newHealth(s.Life.Health),
		},
		NetworkSettings: newNetwork(s, x),
		HostConfig:      newHost(s),
		Corten: ownDoc{Spec: s, State: st, Keeper: f.Keeper, Log: f.Counters, Groups: st.Groups,
			Upper: filepath.Join(f.Dir, "upper"), UserMap: f.UserMap},
	}
	d.Config.Entrypoint, d.Config.Cmd = s.Process.Split()
	if st.Alive() && s.Namespaces.Net.Mode != spec.Host {
		d.NetworkSettings.SandboxKey = "/proc/" + strconv.Itoa(st.PID) + "/ns/net"
	}
	if args := s.Process.Args; len(args) > 0 {
		d.Path, d.Args = args[0], args[1:]
	}
	d.LogPath, d.RestartCount, d.Driver, d.Platform, d.AppArmorProfile = f.Log, st.Restarts, "overlay", "linux", f.Profile
	d.GraphDriver.Name = "overlay"
	d.GraphDriver.Data = map[string]string{"UpperDir": d.Corten.Upper, "WorkDir": filepath.Join(f.Dir, "work")}
	if d.State.Health == nil && c.Health == "starting" {
		d.State.Health = json.RawMessage(`{"Status":"starting","FailingStreak":0,"Log":[]}`)
	}
	for _, m := range s.Mounts {
		if m.Type != spec.Tmpfs {
			d.Mounts = append(d.Mounts, newMount(m, x.volume))
		}
	}
	empty(reflect.ValueOf(&d).Elem())
	return d
}

// empty makes lists and maps that are missing empty ones: templates print those as Docker's
// do, and look into them.
func empty(v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); {
		case f.Kind() == reflect.Struct && f.Type() != reflect.TypeFor[time.Time]():
			empty(f)
		case f.Kind() == reflect.Map && f.IsNil():
			f.Set(reflect.MakeMap(f.Type()))
		case f.Kind() == reflect.Slice && f.IsNil() && f.Type() != reflect.TypeFor[json.RawMessage]():
			f.Set(reflect.MakeSlice(f.Type(), 0, 0))
		}
	}
}

func volumesDoc(s *spec.Container) map[string]struct{} {
	var places map[string]struct{}
	for _, m := range s.Mounts {
		if m.Anonymous {
			if places == nil {
				places = map[string]struct{}{}
			}
			places[m.Target] = struct{}{}
		}
	}
	return places
}

func newHealth(h *spec.Health) *healthDoc {
	switch {
	case h == nil:
		return nil
	case h.Off:
		return &healthDoc{Test: []string{"NONE"}}
	}
	return &healthDoc{h.Test, h.Interval, h.Timeout, h.StartPeriod, h.StartInterval, h.Retries}
}

func newMount(m spec.Mount, volume func(string) string) mountDoc {
	d := mountDoc{Type: m.Type, Source: m.Source, Destination: m.Target, Mode: mountMode(m), RW: !m.ReadOnly, Propagation: m.Propagation}
	if m.Type == spec.Volume {
		d.Name, d.Driver, d.Source = m.Source, "local", volume(m.Source)
	} else if d.Propagation == "" {
		d.Propagation = "rprivate"
	}
	return d
}

// mountMode is the options that stand after the last colon of -v.
func mountMode(m spec.Mount) string {
	var words []string
	for _, w := range []struct {
		on   bool
		word string
	}{{m.ReadOnly, "ro"}, {m.NoExec, "noexec"}, {m.Exec, "exec"}, {m.NoSuid, "nosuid"}, {m.NoDev, "nodev"}, {m.NoCopy, "nocopy"},
		{m.Relabel == spec.RelabelShared, "z"}, {m.Relabel == spec.RelabelPrivate, "Z"},
		{m.Propagation != "", m.Propagation}, {m.Size > 0, "size=" + strconv.FormatInt(m.Size, 10)}} {
		if w.on {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ",")
}

// missing is what list has and other lacks, in Docker's spelling of capabilities.
func missing(list, other []string) []string {
	var out []string
	for _, name := range list {
		if !slices.Contains(other, name) {
			out = append(out, name)
		}
	}
	return out
}

func capsAdded(s *spec.Container) []string {
	return missing(s.Security.Capabilities, plan.DefaultCaps())
}
func capsDropped(s *spec.Container) []string {
	return missing(plan.DefaultCaps(), s.Security.Capabilities)
}
