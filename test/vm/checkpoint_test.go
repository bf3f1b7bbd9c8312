package vm_test

import "testing"

// TestCheckpoint has Debian's criu write containers and make them again: of corten-oci, of Corten, with memory in
// advance, which takes a kernel with CONFIG_MEM_SOFT_DIRTY, and from an archive.
func TestCheckpoint(t *testing.T) {
	m := guest(t)
	const count = `'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done'`
	const wait = `at() { n=0; until [ "$(corten logs -n 1 $1)" -ge $2 ] 2>/dev/null; do sleep 0.1; n=$((n+1)); [ $n -lt 600 ] || exit 1; done; }; `
	defer func() { _, _ = try(t.Context(), m, "corten rm -f cp1 cp2; rm -f /root/cp.tar.zst") }()
	for _, x := range []struct{ name, script string }{
		{"a container", `corten run -d --name cp1 --network none debian sh -c ` + count + ` && at cp1 5 && corten checkpoint cp1 && corten restore cp1 && at cp1 10`},
		{"memory in advance", `corten checkpoint -P cp1 && at cp1 15 && corten checkpoint --with-previous -e /root/cp.tar.zst -k cp1 && corten restore cp1 && at cp1 20`},
		{"an archive", `corten restore -i /root/cp.tar.zst -n cp2 && at cp2 18`},
		{"each number once", `corten logs cp1 > /root/log && test "$(sort -u /root/log | wc -l)" = "$(wc -l < /root/log)" && test "$(tail -n 1 /root/log)" = "$(wc -l < /root/log)"`},
	} {
		t.Run(x.name, func(t *testing.T) { sh(t, m, wait+x.script) })
	}
}
