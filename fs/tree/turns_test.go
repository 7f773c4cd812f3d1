package tree

import (
	"testing"
	"time"
)

// A container that opens a file over and over while another one reads there must not take all of the server's readers.
func TestOpensThatWaitAreBounded(t *testing.T) {
	c := mount(t)
	n := sharedNode(0, firstFile)
	reader := &handle{node: n, container: c.reg.ByID("web")}
	defer reader.container.Release()
	var ts turns
	ts.read(reader)
	ts.inodes[n].limit = time.Hour

	let := make(chan *handle)
	for range maxWaiting + 1 {
		go func() {
			h := &handle{node: n}
			ts.wait(h)
			let <- h
		}()
	}
	if h := <-let; h.inTurn.Load() { // the one too many
		t.Error("a handle is in turn while another container reads")
	}
	ts.done(reader)
	for range maxWaiting {
		if h := <-let; !h.inTurn.Load() {
			t.Error("a handle that waited was not let in in turn")
		}
	}
	if len(ts.waiting) != 0 {
		t.Errorf("still waiting: %v", ts.waiting)
	}
}
