package image

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cortenhq/corten/internal/errs"
	"github.com/cortenhq/corten/internal/oci"
)

func TestChange(t *testing.T) {
	type set = map[string]struct{}
	for text, want := range map[string]oci.Config{
		`CMD ["a", "b c"]`:            {Cmd: []string{"a", "b c"}},
		`cmd echo hello`:              {Cmd: []string{"/bin/sh", "-c", "echo hello"}},
		`CMD []`:                      {Cmd: []string{}},
		`CMD [ -e /x ] && y`:          {Cmd: []string{"/bin/sh", "-c", "[ -e /x ] && y"}},
		`ENTRYPOINT ["/init"]`:        {Entrypoint: []string{"/init"}},
		`ENV A=b`:                     {Env: []string{"A=b"}},
		`ENV A=b C='d e' F="g \"h\""`: {Env: []string{"A=b", "C=d e", `F=g "h"`}},
		`ENV A=b\ c D=`:               {Env: []string{"A=b c", "D="}},
		`ENV A the rest of it`:        {Env: []string{"A=the rest of it"}},
		`ENV A=1 A=2`:                 {Env: []string{"A=2"}},
		`LABEL a.b="c d" e=f`:         {Labels: map[string]string{"a.b": "c d", "e": "f"}},
		`EXPOSE 80 53/udp`:            {ExposedPorts: set{"80/tcp": {}, "53/udp": {}}},
		`EXPOSE 8080-8082`:            {ExposedPorts: set{"8080/tcp": {}, "8081/tcp": {}, "8082/tcp": {}}},
		`VOLUME /a /b`:                {Volumes: set{"/a": {}, "/b": {}}},
		`VOLUME ["/a b"]`:             {Volumes: set{"/a b": {}}},
		`USER app:staff`:              {User: "app:staff"},
		`WORKDIR /srv/../work`:        {WorkingDir: "/work"},
		`WORKDIR sub`:                 {WorkingDir: "/sub"},
		`STOPSIGNAL SIGINT`:           {StopSignal: "SIGINT"},
		`ONBUILD RUN make`:            {OnBuild: []string{"RUN make"}},
		`SHELL ["/bin/bash", "-c"]`:   {Shell: []string{"/bin/bash", "-c"}},
		`HEALTHCHECK NONE`:            {Healthcheck: &oci.Healthcheck{Test: []string{"NONE"}}},
		`HEALTHCHECK --interval=5s --retries=3 CMD curl localhost`: {Healthcheck: &oci.Healthcheck{
			Test: []string{"CMD-SHELL", "curl localhost"}, Interval: 5 * time.Second, Retries: 3}},
		`HEALTHCHECK CMD ["/check"]`: {Healthcheck: &oci.Healthcheck{Test: []string{"CMD", "/check"}}},
	} {
		got, err := Change(oci.Config{}, []string{text})
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", text, err, diff)
		}
	}
}

func TestChangesAddUp(t *testing.T) {
	start := oci.Config{Env: []string{"A=1"}, Cmd: []string{"old"}, WorkingDir: "/srv"}
	got, err := Change(start, []string{"ENV A=2 B=3", "ENTRYPOINT run it", "WORKDIR x", "LABEL a=b", "LABEL c=d"})
	want := oci.Config{Env: []string{"A=2", "B=3"}, Entrypoint: []string{"/bin/sh", "-c", "run it"}, WorkingDir: "/srv/x",
		Labels: map[string]string{"a": "b", "c": "d"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v\n%s", err, diff)
	}
	if start.Env[0] != "A=1" {
		t.Error("the configuration it came from was changed")
	}
}

func TestWrongChanges(t *testing.T) {
	for _, text := range []string{"", "CMD", "FROM scratch", "RUN make", "ENV A", "ENV =b", `ENV A="b`, "ENV A=b c", "EXPOSE 0", "EXPOSE x",
		"EXPOSE 70000", "EXPOSE 9-8", "EXPOSE 80/icmp", "SHELL /bin/sh", "HEALTHCHECK", "HEALTHCHECK curl", "HEALTHCHECK --often CMD x",
		"HEALTHCHECK --interval=soon CMD x", "HEALTHCHECK CMD", `VOLUME [""]`} {
		if _, err := Change(oci.Config{}, []string{text}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
