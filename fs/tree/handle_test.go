package tree

import (
	"errors"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A file handle that was released is never another file's, though its place and memory are used again.
func TestFileHandlesAreNeverUsedAgain(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "proc", "meminfo")
	seen := map[uint64]bool{}
	for range 300 {
		one, other := c.mustOpen(n, onePID), c.mustOpen(n, webPID)
		if seen[one] || seen[other] || one == other || one == 0 {
			t.Fatalf("file handles %x and %x: used before", one, other)
		}
		seen[one], seen[other] = true, true
		c.release(n, one)
		fresh := c.mustOpen(n, machinePID) // in its place
		if _, errno := c.pread(n, one, onePID, 0, 100); errno != int32(syscall.EBADF) {
			t.Fatalf("read of a released handle: errno %d", errno)
		}
		c.release(n, one) // again
		if text, errno := c.pread(n, fresh, machinePID, 0, 100); errno != 0 || total(text) != 8192 {
			t.Fatalf("errno %d, %q", errno, text)
		}
		c.release(n, fresh)
		c.release(n, other)
	}
}

// Containers that open and close all the time never see each other's numbers, whoever still reads a handle that is closed.
func TestReadsThatComeTooLate(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "proc", "meminfo")
	var readers sync.WaitGroup
	for i, reader := range []struct {
		pid  uint32
		want int
	}{{machinePID, 8192}, {onePID, 100}, {webPID, 200}} {
		handles := make(chan uint64, 16)
		look := func(unique uint64) (do func(fh uint64, late bool)) {
			me := *c
			me.unique = unique
			return func(fh uint64, late bool) {
				text, errno := me.pread(n, fh, reader.pid, 0, 65536)
				if late && errno == int32(syscall.EBADF) {
					return
				}
				if errno != 0 || total(text) != reader.want {
					t.Errorf("errno %d, %d MiB, want %d", errno, total(text), reader.want)
				}
			}
		}
		readers.Go(func() {
			defer close(handles)
			me := *c
			me.unique = uint64(3*i+1) << 32
			read := look(uint64(3*i+2) << 32)
			for range 300 {
				fh := me.mustOpen(n, reader.pid)
				handles <- fh
				read(fh, false)
				me.release(n, fh)
			}
		})
		readers.Go(func() {
			read := look(uint64(3*i+3) << 32)
			for fh := range handles {
				read(fh, true)
			}
		})
	}
	readers.Wait()
	if n := c.tree.handles.open(); n != 0 {
		t.Errorf("%d handles are left", n)
	}
}

// Files that are kept open cost no more than a bounded memory once they are read, and can be read on.
func TestOpenFilesHaveBoundedMemory(t *testing.T) {
	c := mount(t)
	n := c.walk(machinePID, "c", "web", "proc", "meminfo")
	whole := c.cat(n, webPID)
	c.tree.texts.held.Add(maxHeld) // those of others
	var open []uint64
	for range 100 {
		fh := c.mustOpen(n, webPID)
		for offset := 0; offset <= len(whole); offset += 500 {
			want := whole[offset:min(offset+500, len(whole))]
			if text, errno := c.pread(n, fh, webPID, offset, 500); errno != 0 || text != want {
				t.Fatalf("at %d: errno %d, %q", offset, errno, text)
			}
		}
		open = append(open, fh)
	}
	held := func() int64 { return c.tree.texts.held.Load() - maxHeld }
	if held() == 0 {
		t.Error("the snapshots of files that are not read to their end are gone")
	}
	for _, fh := range open {
		for range 2 {
			if text, errno := c.pread(n, fh, webPID, len(whole), 500); errno != 0 || text != "" {
				t.Fatalf("at the end: errno %d, %q", errno, text)
			}
		}
	}
	if held() != 0 {
		t.Errorf("%d bytes are held for files that were read to their end", held())
	}
	c.m.Write("sys/fs/cgroup/c2/memory.max", "52428800\n")
	for _, fh := range open {
		if text, errno := c.pread(n, fh, webPID, len(whole)+1, 500); errno != 0 || text != "" {
			t.Fatalf("behind the end: errno %d, %q", errno, text)
		}
		if text, errno := c.pread(n, fh, webPID, 20, 500); errno != 0 || text == "" || strings.HasPrefix(whole[20:], text) {
			t.Fatalf("in the middle: errno %d, %q; want another snapshot", errno, text)
		}
		c.release(n, fh)
	}
	if held() != 0 {
		t.Errorf("%d bytes are held when all is closed", held())
	}
}

func TestTextsKeepLittle(t *testing.T) {
	var ts texts
	for range 100 {
		ts.give(make([]byte, 100<<10))
		ts.give(make([]byte, 2*maxKept))
		ts.give(nil)
	}
	var kept int
	for _, b := range ts.free {
		kept += cap(b)
	}
	if kept > maxKept || kept != ts.kept || kept < maxKept/2 {
		t.Errorf("%d bytes are kept, counted as %d, of at most %d", kept, ts.kept, maxKept)
	}
	for range 2 * len(ts.free) {
		ts.take()
	}
	if ts.kept != 0 {
		t.Errorf("%d bytes are kept when all were taken", ts.kept)
	}
}

// What could not be read whole is no snapshot.
func TestSnapshotThatFails(t *testing.T) {
	h, ts := new(handle), new(texts)
	failing := false
	render := func(dst []byte) ([]byte, error) {
		if failing {
			return append(dst, "half"...), errors.New("it broke")
		}
		return append(dst, "the whole text"...), nil
	}
	buf := make([]byte, 100)
	for range 2 {
		failing = false
		if n, err := h.read(buf, 0, ts, render); err != nil || string(buf[:n]) != "the whole text" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		failing = true
		for _, offset := range []uint64{0, 4, 100} {
			if n, err := h.read(buf, offset, ts, render); err == nil {
				t.Errorf("at %d: %q", offset, buf[:n])
			}
		}
	}
	h.forget(ts)
	if ts.held.Load() != 0 {
		t.Errorf("%d bytes are held", ts.held.Load())
	}
}

func TestTableShrinks(t *testing.T) {
	var open table[dirHandle]
	var fhs []uint64
	for range 2 {
		for range 3 * keptSlots {
			fhs = append(fhs, open.add(new(dirHandle)))
		}
		for _, fh := range fhs[len(fhs)-3*keptSlots:] {
			if open.get(fh) == nil || open.remove(fh) == nil || open.remove(fh) != nil {
				t.Fatalf("%x was not open once", fh)
			}
		}
		if open.open() != 0 || cap(open.slots) != 0 || cap(open.free) != 0 {
			t.Errorf("%d open, room for %d and %d", open.open(), cap(open.slots), cap(open.free))
		}
	}
	seen := map[uint64]bool{}
	for _, fh := range fhs {
		if seen[fh] || open.get(fh) != nil {
			t.Fatalf("%x was used again", fh)
		}
		seen[fh] = true
	}
}
