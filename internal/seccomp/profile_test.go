package seccomp

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/spec"
)

func TestDockerFormat(t *testing.T) {
	data, err := os.ReadFile("testdata/docker.json")
	if err != nil {
		t.Fatal(err)
	}
	const always = "read write exit_group socketcall close"
	for _, c := range []struct {
		on     spec.SeccompHost
		arches []spec.SeccompArch
		names  string
	}{
		{spec.SeccompHost{Arch: "amd64", Kernel: "6.18.44-cloud-amd64"},
			[]spec.SeccompArch{spec.ArchX86_64, spec.ArchX86, spec.ArchX32},
			always + " ptrace mseal arch_prctl modify_ldt clone clone3 personality"},
		{spec.SeccompHost{Arch: "amd64", Kernel: "4.7", Caps: []string{"CAP_SYS_ADMIN"}},
			[]spec.SeccompArch{spec.ArchX86_64, spec.ArchX86, spec.ArchX32},
			always + " kcmp arch_prctl modify_ldt mount personality"},
		{spec.SeccompHost{Arch: "amd64", Kernel: "6.9-rc5", Caps: []string{"CAP_BPF", "CAP_SYS_ADMIN"}},
			[]spec.SeccompArch{spec.ArchX86_64, spec.ArchX86, spec.ArchX32},
			always + " ptrace arch_prctl modify_ldt mount bpf personality"},
		{spec.SeccompHost{Arch: "arm64", Kernel: "6.10.1", Caps: []string{"CAP_SYS_PTRACE"}},
			[]spec.SeccompArch{spec.ArchAARCH64, spec.ArchARM},
			always + " ptrace mseal set_tls clone3 personality"},
	} {
		p, err := spec.ParseSeccomp(data, c.on)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range p.Syscalls {
			got = append(got, r.Names...)
		}
		if strings.Join(got, " ") != c.names || !slices.Equal(p.Architectures, c.arches) {
			t.Errorf("%+v: %v for %v", c.on, got, p.Architectures)
		}
		for _, host := range hosts {
			if prog, err := Compile(p, host); err != nil || len(prog.Warnings) > 0 {
				t.Errorf("%+v: %v %v", c.on, err, prog.Warnings)
			}
		}
	}
}

// A profile in the specification's own form is read as it stands, and comes out as it
// went in.
func TestSpecificationFormat(t *testing.T) {
	const text = `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_S390X"],` +
		`"flags":[],"listenerPath":"/run/agent.sock","listenerMetadata":"x","syscalls":[{"names":["mount","read"],` +
		`"action":"SCMP_ACT_NOTIFY","args":[{"index":5,"value":1,"valueTwo":2,"op":"SCMP_CMP_MASKED_EQ"}]},` +
		`{"names":["kill"],"action":"SCMP_ACT_TRACE","errnoRet":0}]}`
	p, err := spec.ParseSeccomp([]byte(text), spec.SeccompHost{Arch: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Flags == nil {
		t.Error("no flags and none given are two things")
	}
	out, err := json.Marshal(p)
	if err != nil || string(out) != text {
		t.Errorf("%s, %v", out, err)
	}
	var plain spec.Seccomp
	if err := json.Unmarshal([]byte(text), &plain); err != nil || !reflect.DeepEqual(&plain, p) {
		t.Errorf("%+v, %v", plain, err)
	}
}

func TestRefusedFormat(t *testing.T) {
	for want, text := range map[string]string{
		"unexpected end":          `{`,
		"no defaultAction":        `{}`,
		"both architectures and":  `{"defaultAction":"x","architectures":["a"],"archMap":[{"architecture":"b"}]}`,
		"both name and names":     `{"defaultAction":"x","syscalls":[{"name":"a","names":["b"]}]}`,
		"syscalls[1]: read minKe": `{"defaultAction":"x","syscalls":[{"name":"a"},{"name":"b","includes":{"minKernel":"5"}}]}`,
		"after top-level value":   `{"defaultAction":"x"} {}`,
		"cannot unmarshal string": `{"defaultAction":"x","syscalls":[{"names":"read"}]}`,
	} {
		_, err := spec.ParseSeccomp([]byte(text), spec.SeccompHost{Arch: "amd64", Kernel: "6.1.0"})
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// Whatever a user hands in is refused, or becomes a program that Linux takes and that
// says what the profile says.
func FuzzProfile(f *testing.F) {
	docker, err := os.ReadFile("testdata/docker.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(docker, true)
	def, err := json.Marshal(Default(nil, spec.ArchX86, spec.ArchARM))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(def, false)
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86","SCMP_ARCH_X32","SCMP_ARCH_ARM"],`+
		`"syscalls":[{"names":["socket","semop","cacheflush"],"action":"SCMP_ACT_ERRNO","errnoRet":97,`+
		`"args":[{"index":0,"value":4294967334,"op":"SCMP_CMP_EQ"},{"index":0,"value":40,"op":"SCMP_CMP_LE"}]},`+
		`{"names":["socket"],"action":"SCMP_ACT_KILL","args":[{"index":1,"value":0,"op":"SCMP_CMP_GE"}]}]}`), false)
	f.Fuzz(func(t *testing.T, data []byte, admin bool) {
		for _, host := range hosts {
			on := spec.SeccompHost{Arch: host.String(), Kernel: "6.1.0-13-amd64"}
			if admin {
				on.Caps = []string{"CAP_SYS_ADMIN"}
			}
			p, err := spec.ParseSeccomp(data, on)
			if err != nil {
				return
			}
			prog, err := Compile(p, host)
			if err != nil {
				if !errs.Is(err, errs.Invalid) {
					t.Fatal(err)
				}
				continue
			}
			var args [6]uint64
			for _, r := range p.Syscalls {
				for _, a := range r.Args {
					args[a.Index] = a.Value
				}
			}
			m := newMachine(t, prog)
			for _, e := range host.entries() {
				for _, name := range []string{"read", "socket", "socketcall", "ipc", "clone", "cacheflush", "removexattrat"} {
					place, _ := find(name)
					for _, v := range [][6]uint64{{}, args} {
						k := call{e.audit, uint32(numbers[e.abi][place]), v}
						if got, want := m.run(k), model(p, host, k); got != want {
							t.Fatalf("%s %s %v: program says %#x, model %#x", e.name, name, v, got, want)
						}
					}
				}
			}
		}
	})
}
