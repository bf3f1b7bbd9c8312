# Corten. `make run` builds it and runs a container on this host's own root;
# `make test` installs what the tests need, by Debian package name, and runs them all.

GO        ?= go
PREFIX    ?= /usr/local
DESTDIR   ?=
LDFLAGS   := -s -w
PROGRAMS  := corten corten-image corten-format corten-keeper corten-net corten-cni corten-oci
# These begin before the Go runtime, with what ordinary users need.
NEST      := -E=github.com/cortenhq/corten/internal/kernel/nest.entry
# What the tests use from Debian: oracles, peers, and makers of real images.
PACKAGES  := erofs-utils busybox-static debootstrap docker-registry skopeo umoci crun \
             attr libcap2-bin zstd xz-utils procps iproute2 nftables iptables \
             uidmap passt slirp4netns containernetworking-plugins apparmor
PEERS     := crun runc podman docker.io bubblewrap skopeo umoci docker-registry busybox-static debootstrap uidmap \
             iperf3 wrk nginx-light iptables containernetworking-plugins
# Too much for every run of the tests, and some start daemons where there is systemd: make engines.
ENGINES   := busybox-static containerd docker.io podman conmon buildah runc iptables containernetworking-plugins
QEMU      := qemu-system-x86 debootstrap cpio xz-utils
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

export CGO_ENABLED = 0

.PHONY: build run test check race conformance engines vmtest cross fuzz bench install uninstall docs clean test-packages bench-packages

# The linker writes a program page by page, and in the page cache it stays so; a copy, as install
# makes one too, is in larger pieces and starts a tenth of a millisecond sooner.
build:
	@mkdir -p bin/link
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/link/ $(addprefix ./cmd/,$(filter-out corten corten-image corten-oci,$(PROGRAMS)))
	$(GO) build -trimpath -ldflags '$(LDFLAGS) $(NEST)' -o bin/link/ ./cmd/corten ./cmd/corten-image ./cmd/corten-oci
	$(GO) build -trimpath -ldflags '$(LDFLAGS) -E=main.entry' -o bin/link/ ./cmd/corten-init
	@for p in $(PROGRAMS); do cmp -s bin/link/$$p bin/$$p || install -m 0755 bin/link/$$p bin/$$p || exit 1; done
	@# Unreadable for a container's users: they can then not trace it.
	@cmp -s bin/link/corten-init bin/corten-init || install -m 0711 bin/link/corten-init bin/corten-init
	@# An ordinary user's own commands could look into none of his containers then.
	@cmp -s bin/link/corten-init bin/corten-init-user || install -m 0755 bin/link/corten-init bin/corten-init-user

run: build
	@bin/corten run --rm host sh -c 'echo "Hello from a container on $$(. /etc/os-release; echo $$PRETTY_NAME)."; \
	  echo "I am $$(id -un) in here, host id $$(awk "{print \$$2; exit}" /proc/self/uid_map) outside."; \
	  echo "My processes:"; ps -o pid,user,comm'

# The tests of containers use the host's own control groups, mounts and loop devices: left says
# what they leave of them.
test: test-packages build check
	$(GO) run ./test/left $(GO) test ./...
	@$(MAKE) --no-print-directory race cross

check:
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run gofmt -w on these'; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

# The race detector needs cgo; the tests it runs are the same.
race:
	CGO_ENABLED=1 $(GO) test -race -short ./internal/...

# Suites of others, beside runc and crun; takes minutes, and the network the first time.
conformance:
	$(call install-packages,crun runc)
	CORTEN_TEST_CONFORMANCE=1 $(GO) test -timeout 30m -count 1 -v ./test/conformance

# Docker, containerd, Podman and Buildah by corten-oci; make test has those that are installed.
engines:
	$(call install-packages,$(ENGINES))
	$(GO) test -count 1 -v ./test/engines

# In a virtual machine with systemd, cgroup v2 and AppArmor; takes the network the first time. VM=full has it run
# all tests of all packages, the suite of the OCI runtime specification and 50 power cuts, which takes hours.
vmtest:
	$(call install-packages,$(QEMU))
	@test -z '$(VM)' -o '$(VM)' = full || { echo 'VM is full, or not given'; exit 2; }
	$(if $(VM),CORTEN_VM_FULL=1 CORTEN_POWER_CUTS=50 )CORTEN_TEST_VM=1 $(GO) test -timeout $(if $(VM),8h,60m) -count 1 -v ./test/vm ./test/systemd

cross:
	GOARCH=arm64 $(GO) vet ./...

# Each fuzz target for FUZZTIME.
FUZZTIME ?= 30s
fuzz:
	@for p in $$(grep -rl '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
	  for f in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$p/*_test.go); do \
	    $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; done; done

bench: bench-packages build
	$(GO) run ./bench -md $(BENCHFLAGS)

docs: build
	$(GO) run ./cmd/corten-docs -man bin/man -completions bin/completions

install: docs
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/corten $(DESTDIR)$(PREFIX)/share/man/man1 \
	  $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	  $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 0755 bin/corten $(DESTDIR)$(PREFIX)/bin/corten
	install -m 0755 bin/corten-oci $(DESTDIR)$(PREFIX)/bin/corten-oci
	install -m 0755 bin/corten-image bin/corten-format bin/corten-keeper bin/corten-net bin/corten-cni $(DESTDIR)$(PREFIX)/libexec/corten/
	install -m 0711 bin/corten-init $(DESTDIR)$(PREFIX)/libexec/corten/corten-init
	install -m 0755 bin/corten-init $(DESTDIR)$(PREFIX)/libexec/corten/corten-init-user
	install -m 0644 bin/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 0644 bin/completions/corten.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/corten
	install -m 0644 bin/completions/_corten $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_corten
	install -m 0644 bin/completions/corten.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/corten.fish
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/lib/systemd/user $(DESTDIR)$(PREFIX)/share/corten
	sed 's|@PREFIX@|$(PREFIX)|' packaging/corten-boot.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/corten-boot.service
	sed 's|@PREFIX@|$(PREFIX)|' packaging/corten-boot.init >$(DESTDIR)$(PREFIX)/share/corten/corten-boot.init
	sed 's|@PREFIX@|$(PREFIX)|' packaging/corten-boot.user.service >$(DESTDIR)$(PREFIX)/lib/systemd/user/corten-boot.service
	chmod 0644 $(DESTDIR)$(PREFIX)/lib/systemd/system/corten-boot.service $(DESTDIR)$(PREFIX)/lib/systemd/user/corten-boot.service
	chmod 0755 $(DESTDIR)$(PREFIX)/share/corten/corten-boot.init
	install -d $(DESTDIR)/etc/apparmor.d
	install -m 0644 packaging/apparmor/corten-default $(DESTDIR)/etc/apparmor.d/corten-default
	@# From the next boot on the distribution loads it.
	@$(apparmor) || apparmor_parser -r /etc/apparmor.d/corten-default

uninstall:
	@$(apparmor) || apparmor_parser -R /etc/apparmor.d/corten-default || true
	rm -rf $(DESTDIR)/etc/apparmor.d/corten-default $(DESTDIR)$(PREFIX)/bin/corten $(DESTDIR)$(PREFIX)/bin/corten-oci $(DESTDIR)$(PREFIX)/libexec/corten $(DESTDIR)$(PREFIX)/share/man/man1/corten*.1 \
	  $(DESTDIR)$(PREFIX)/share/bash-completion/completions/corten $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_corten \
	  $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/corten.fish \
	  $(DESTDIR)$(PREFIX)/lib/systemd/system/corten-boot.service $(DESTDIR)$(PREFIX)/lib/systemd/user/corten-boot.service $(DESTDIR)$(PREFIX)/share/corten

# Succeeds where there is no AppArmor to tell: a package is made, or the kernel has it not.
apparmor = test -n "$(DESTDIR)" || test "$$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" != Y

# install-packages: only what is missing, so that a machine which has all is not asked for the network.
define install-packages
	@missing=$$(for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then echo "missing, and what needs them will be skipped by name: $$missing"; \
	  else apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; fi; fi
endef

test-packages:
	$(call install-packages,$(PACKAGES))

bench-packages:
	$(call install-packages,$(PEERS))

clean:
	rm -rf bin
