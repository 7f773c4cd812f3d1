package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reading is what one way of reading a file gave.
type reading struct {
	Text    string
	Refused string // the error that the kernel answered, "" for none
}

// ways are the ways of reading a whole file by system calls.
var ways = map[string]func(f *os.File) ([]byte, error){
	"read by 1 byte":    func(f *os.File) ([]byte, error) { return readBy(f, 1) },
	"read by 1 kB":      func(f *os.File) ([]byte, error) { return readBy(f, 1<<10) },
	"read by 64 kB":     func(f *os.File) ([]byte, error) { return readBy(f, 64<<10) },
	"pread backwards":   preadBackwards,
	"pread at 7":        func(f *os.File) ([]byte, error) { return preadFrom(f, 7) },
	"readv":             readv,
	"preadv2":           preadv2,
	"sendfile":          sendfile,
	"splice":            splice,
	"copy_file_range":   copyFileRange,
	"mmap private":      func(f *os.File) ([]byte, error) { return mapped(f, unix.MAP_PRIVATE) },
	"mmap shared":       func(f *os.File) ([]byte, error) { return mapped(f, unix.MAP_SHARED) },
	"lseek and read on": seekAndRead,
}

func readBy(f *os.File, n int) (all []byte, err error) {
	buf := make([]byte, n)
	for {
		n, err := f.Read(buf)
		all = append(all, buf[:n]...)
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
	}
}

// preadFrom reads from an offset of a fresh descriptor, then what is before it.
func preadFrom(f *os.File, offset int64) ([]byte, error) {
	return unchanged(f, func(f *os.File, buf []byte) (int, error) {
		n, err := f.ReadAt(buf[offset:], offset)
		if err != nil && err != io.EOF {
			return 0, err
		}
		return int(offset) + n, nil
	}, offset)
}

// unchanged joins what read reads, from an offset, of a fresh descriptor with what is before it. A read at 0 is a new
// snapshot: where that is of another length, as when uptime goes from 9.99 to 10.00, it tries again.
func unchanged(f *os.File, read func(f *os.File, buf []byte) (size int, err error), offset int64) ([]byte, error) {
	for {
		buf := make([]byte, 1<<20)
		size, err := read(f, buf)
		if err != nil {
			return nil, err
		}
		head := make([]byte, 1<<20)
		whole, err := f.ReadAt(head, 0)
		if err != nil && err != io.EOF {
			return nil, err
		}
		if whole <= int(offset) {
			return head[:whole], nil // shorter than the offset, as diskstats is empty of a container without I/O
		}
		if whole == size {
			return append(head[:offset], buf[offset:size]...), nil
		}
		if f, err = os.Open(f.Name()); err != nil {
			return nil, err
		}
		defer f.Close()
	}
}

// preadBackwards reads a fresh descriptor from its end to offset 1.
func preadBackwards(f *os.File) ([]byte, error) {
	return unchanged(f, func(f *os.File, buf []byte) (int, error) {
		n, err := unix.Pread(int(f.Fd()), buf, 1)
		if err != nil {
			return 0, err
		}
		size := n + 1
		for at := size - 100; at > 1; at -= 100 {
			if _, err := unix.Pread(int(f.Fd()), buf[at:min(at+100, size)], int64(at)); err != nil {
				return 0, err
			}
		}
		_, err = unix.Pread(int(f.Fd()), buf[1:min(200, size)], 1)
		return size, err
	}, 1)
}

func readv(f *os.File) (all []byte, err error) {
	for {
		parts := [][]byte{make([]byte, 3), make([]byte, 500), make([]byte, 4096)}
		n, err := unix.Readv(int(f.Fd()), parts)
		if n <= 0 || err != nil {
			return all, err
		}
		for _, p := range parts {
			m := min(n, len(p))
			all, n = append(all, p[:m]...), n-m
		}
	}
}

func preadv2(f *os.File) (all []byte, err error) {
	for {
		part := make([]byte, 1000)
		n, err := unix.Preadv2(int(f.Fd()), [][]byte{part}, int64(len(all)), 0)
		if n <= 0 || err != nil {
			return all, err
		}
		all = append(all, part[:n]...)
	}
}

// sendfile reads as busybox cat does, into a file.
func sendfile(f *os.File) ([]byte, error) {
	return intoFile(func(out int) error {
		for {
			n, err := unix.Sendfile(out, int(f.Fd()), nil, 16<<20)
			if n <= 0 || err != nil {
				return err
			}
		}
	})
}

func copyFileRange(f *os.File) ([]byte, error) {
	return intoFile(func(out int) error {
		for {
			n, err := unix.CopyFileRange(int(f.Fd()), nil, out, nil, 1<<20, 0)
			if n <= 0 || err != nil {
				return err
			}
		}
	})
}

// intoFile is what a system call writes into the descriptor of a file.
func intoFile(fill func(out int) error) ([]byte, error) {
	out, err := os.CreateTemp("", "scopefs-e2e-out-")
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if err := os.Remove(out.Name()); err != nil {
		return nil, err
	}
	if err := fill(int(out.Fd())); err != nil {
		return nil, err
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return io.ReadAll(out)
}

func splice(f *os.File) (all []byte, err error) {
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		return nil, err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Splice(int(f.Fd()), nil, pipe[1], nil, 32<<10, 0)
		if n <= 0 || err != nil {
			return all, err
		}
		for n > 0 {
			m, err := unix.Read(pipe[0], buf[:min(int64(len(buf)), n)])
			if err != nil {
				return all, err
			}
			all, n = append(all, buf[:m]...), n-int64(m)
		}
	}
}

// mapped reads through a mapping of the whole file, as its size has it. The size of a file that nobody reads through
// the page cache is a guess that is never too small, so zeros may follow the content.
func mapped(f *os.File, flags int) (text []byte, err error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, int(fi.Size()), unix.PROT_READ, flags)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Munmap(mem) }()
	// A page that lies wholly behind the end is none.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("the mapping of %d bytes: %v", len(mem), fault)
		}
	}()
	return bytes.TrimRight(append([]byte(nil), mem...), "\x00"), nil
}

// seekAndRead reads, and reads from the start again: a whole snapshot both times.
func seekAndRead(f *os.File) ([]byte, error) {
	first, err := readBy(f, 4096)
	if err != nil {
		return first, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	second, err := readBy(f, 4096)
	if strings.Count(string(first), "\n") != strings.Count(string(second), "\n") {
		return second, fmt.Errorf("%d bytes first, %d again", len(first), len(second))
	}
	return second, err
}

// playWays reads the file in every way, as often as the first argument says, and prints what came as JSON.
func playWays(args []string) error {
	rounds, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for range rounds {
		got := map[string]reading{}
		for name, way := range ways {
			f, err := os.Open(args[1])
			if err != nil {
				return err
			}
			// Reads as big as they are said to be, not io.ReadAll's; and a mapping may fault.
			text, err := way(f)
			r := reading{Text: string(text)}
			if err != nil {
				r.Refused = err.Error()
			}
			got[name] = r
			f.Close()
		}
		if err := json.NewEncoder(os.Stdout).Encode(got); err != nil {
			return err
		}
	}
	return nil
}

// refusals are the answers of those that did, to be logged once.
var refusals sync.Map

// mayRefuse are the ways that the kernel need not offer on such a file.
var mayRefuse = map[string]bool{"mmap private": true, "mmap shared": true, "copy_file_range": true}

// TestWaysOfReading reads every file in every way, in one container and in several at once.
func TestWaysOfReading(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			var containers []*container
			for i := range 3 {
				g := newGroup(t).memory(int64(100*(i+1)) * miB).cpus(float64(1 + i%2))
				containers = append(containers, startContainer(t, d, g, options{bind: bind}))
			}
			all := maps.Clone(files)
			maps.Copy(all, sysFiles)
			for file := range all {
				t.Run(filepath.Base(file), func(t *testing.T) {
					if inVM { // which is slow
						readInAllWays(t, file, 1, containers)
						return
					}
					readInAllWays(t, file, 1, containers[:1])
					readInAllWays(t, file, 2, containers)
				})
			}
		})
	}
}

// still are the files that say the same at every read of a container that rests.
var still = map[string]bool{
	"proc/cpuinfo": true, "proc/swaps": true, "sys/devices/system/cpu/online": true, "sys/devices/system/cpu/present": true,
	"sys/devices/system/cpu/possible": true, "sys/devices/system/cpu/offline": true,
}

// resting is what a file says that does not move: how much swap others use, and so leave free, does.
func resting(file, text string) string {
	if file != "proc/swaps" {
		return text
	}
	return usedSwap.ReplaceAllString(text, "$1")
}

var usedSwap = regexp.MustCompile(`(?m)^(\S+\s+\S+\s+\d+\s+)\d+`)

func readInAllWays(t *testing.T, file string, rounds int, containers []*container) {
	t.Helper()
	var readers []*process
	for _, c := range containers {
		readers = append(readers, start(t, patience, c.command(selfExe, "ways", fmt.Sprint(rounds), "/"+file)))
	}
	for i, c := range containers {
		dec := json.NewDecoder(strings.NewReader(readers[i].wait()))
		plain := c.read(file)
		for {
			var got map[string]reading
			if err := dec.Decode(&got); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			for way, r := range got {
				switch {
				case r.Refused != "" && mayRefuse[way]:
					if _, told := refusals.LoadOrStore(way, r.Refused); !told {
						t.Logf("%s: %s", way, r.Refused)
					}
					continue
				case r.Refused != "":
					t.Errorf("%s: %s", way, r.Refused)
					continue
				default:
					if err := whole(file, r.Text); err != nil {
						t.Errorf("%s: %v", way, err)
						continue
					}
				}
				if strings.Count(r.Text, "\n") != strings.Count(plain, "\n") {
					t.Errorf("%s: %d lines, cat has %d", way, strings.Count(r.Text, "\n"), strings.Count(plain, "\n"))
				}
				// cpuinfo says how many MHz each CPU runs at.
				if still[file] && resting(file, r.Text) != resting(file, plain) && file != "proc/cpuinfo" {
					t.Errorf("%s: %q, cat has %q", way, r.Text, plain)
				}
				if file == "proc/meminfo" && !strings.Contains(r.Text, total(plain)) {
					t.Errorf("%s: %.40q, cat has %.40q", way, r.Text, plain)
				}
			}
		}
	}
}

// total is the first line of meminfo.
func total(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// TestReadingPrograms reads meminfo by programs that each read in their own way.
func TestReadingPrograms(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for name, bind := range map[string]bindKind{"own": ownTree, "compat": compatTree} {
		t.Run(name, func(t *testing.T) {
			c := startContainer(t, d, newGroup(t).memory(128*miB), options{bind: bind})
			for file := range files {
				lines := strings.Count(c.read(file), "\n")
				copied := filepath.Join(scratch(t), "copy")
				boxes := []string{"", "busybox "}
				if inVM {
					boxes = boxes[1:] // there is no other
				}
				for _, box := range boxes {
					f := "/" + file
					count := func(want int, script string) {
						t.Helper()
						if got := strings.Count(c.shell(script), "\n"); got != want {
							t.Errorf("%s: %d lines, want %d", script, got, want)
						}
					}
					count(lines, box+"cat "+f)
					count(lines, box+"cat < "+f)
					count(lines, box+"cat "+f+" | cat")
					count(min(3, lines), box+"tail -n 3 "+f)
					count(min(2, lines), box+"head -n 2 "+f)
					count(lines, box+"dd bs=1 status=none if="+f)
					count(lines, box+"grep '' "+f+"; true") // it fails where there is no line
					count(lines, box+"cp "+f+" "+copied+" && cat "+copied)
					if n := strings.TrimSpace(c.shell(box + "head -c 10 " + f + " | wc -c")); n != "10" && file != "sys/devices/system/cpu/online" && !still[file] && lines > 0 {
						t.Errorf("%shead -c 10 %s: %s bytes", box, f, n)
					}
					var size int
					text := c.shell(box + "cat " + f)
					if _, err := fmt.Sscan(c.shell(box+"wc -c "+f), &size); err != nil || !near(size, len(text), 64) {
						t.Errorf("%swc -c %s: %d bytes, cat has %d: %v", box, f, size, len(text), err)
					}
				}
			}
		})
	}
}

// TestPreadOfFresh reads 100 bytes at offset 700 of a descriptor that nobody has read from.
func TestPreadOfFresh(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for _, bind := range []bindKind{ownTree, compatTree} {
		c := startContainer(t, d, newGroup(t).memory(128*miB), options{bind: bind})
		want := c.read("proc/meminfo")
		got := c.run("busybox", "dd", "if=/proc/meminfo", "bs=100", "skip=7", "count=1", "status=none")
		// Digits may have changed, columns not.
		if columns(got) != columns(want[700:800]) {
			t.Errorf("bytes 700 to 800:\n%s\nwant\n%s", got, want[700:800])
		}
	}
}

// columns is text with every number made the same.
func columns(text string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' || r == ' ' {
			return '0'
		}
		return r
	}, text)
}

// TestThreadsOnOneDescriptor has 12 threads pread one descriptor 10,000 times.
func TestThreadsOnOneDescriptor(t *testing.T) {
	t.Parallel()
	d := startDaemon(t)
	for _, bind := range []bindKind{ownTree, compatTree} {
		c := startContainer(t, d, newGroup(t).memory(128*miB), options{bind: bind})
		start(t, 2*time.Minute, c.command(selfExe, "threads", "12", fmt.Sprint(fewer(10000)), "/proc/meminfo")).wait()
	}
}

// playThreads preads one descriptor in many threads; every result must be a whole meminfo of the same shape.
func playThreads(args []string) error {
	threads, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	reads, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	f, err := os.Open(args[2])
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<16)
	n, err := f.ReadAt(buf, 0)
	if err != io.EOF {
		return err
	}
	lines, first := strings.Count(string(buf[:n]), "\n"), total(string(buf[:n]))
	var wg sync.WaitGroup
	errs := make([]error, threads)
	for i := range threads {
		wg.Go(func() {
			buf := make([]byte, 1<<16)
			for range reads / threads {
				n, err := syscall.Pread(int(f.Fd()), buf, 0)
				if err != nil {
					errs[i] = err
					return
				}
				text := string(buf[:n])
				if !strings.HasPrefix(text, first) || !strings.HasSuffix(text, "\n") || strings.Count(text, "\n") != lines {
					errs[i] = fmt.Errorf("not whole, %d lines, want %d: %q", strings.Count(text, "\n"), lines, text)
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
