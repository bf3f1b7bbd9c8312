package launch

import (
	"os"
	"strconv"
)

const ownScore = "/proc/self/oom_score_adj"

// setScore sets the OOM score of the new process. As long as that shares our memory the kernel
// gives it to us as well (__set_oom_adj, fs/proc/base.c), since with one of them it would have to
// kill both: takeScore takes our own back.
func (h *host) setScore(value int) (err error) {
	if h.score, err = os.ReadFile(ownScore); err != nil {
		return err
	}
	return writeFile(h.procFile("oom_score_adj"), strconv.Itoa(value))
}

// takeScore is called when nobody shares our memory any more. Who may not lower a score may set
// it back to what it was all the same: the lowest that he may set is that which root gave him.
func (h *host) takeScore() {
	if h.score != nil {
		_ = writeFile(ownScore, string(h.score))
	}
}
