package container

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ledgerMagic names the layout of a ledger file; a file with another one is started anew.
const ledgerMagic = 0x73636f7065763034 // "scopev04"

// A ledger file is a recordHead, the path of the cgroup directory that it is about, the rows and the counts. It
// is sparse, and of its pages only those exist that are in use: for a container of a machine of some 16 CPUs and as many disks
// one, and two more if its memory events are read.
const (
	ledgerPath = 128  // offset of the path, 0-terminated unless it was cut off
	ledgerRows = 1024 // offset of the rows
	rowSize    = int(unsafe.Sizeof(row{}))
)

var _ [ledgerPath - unsafe.Sizeof(recordHead{})]struct{}

// openLedger maps the ledger file name in dir, and makes it when it is missing, so that the counters go on where an
// earlier daemon left them. With dir empty the ledger lives in memory. With private set nothing is written back:
// `scopefs show` looks at the daemon's numbers without moving them.
func openLedger(dir, name, cgroupDir string, rows int, private bool) (*ledger, error) {
	inMemory := func() (*ledger, error) {
		return &ledger{rec: newRecord(rows), close: func() error { return nil }}, nil
	}
	if dir == "" {
		return inMemory()
	}
	path := filepath.Join(dir, name)
	l, err := mapLedger(path, rows, private)
	if private && (errors.Is(err, unix.ENOENT) || err == errLayout) {
		return inMemory()
	}
	if err == errLayout {
		// Another file, as a process that has mapped the old one would fault beyond an end that came nearer.
		if err := os.Remove(path); err != nil {
			return nil, err
		}
		l, err = mapLedger(path, rows, private)
	}
	if err != nil {
		return nil, err
	}
	if head := l.rec.head; head.Magic == 0 {
		head.Rows = uint64(rows)
		copy(l.rec.path, cgroupDir)
		head.Magic = ledgerMagic
	}
	return l, nil
}

// errLayout says that a ledger file cannot be gone on with.
var errLayout = errors.New("a ledger file of another layout")

// mapLedger maps a ledger file. One that it makes, or that nothing was written to, is all zeros.
func mapLedger(path string, rows int, private bool) (*ledger, error) {
	countsAt := ledgerRows + rows*rowSize
	size := countsAt + int(unsafe.Sizeof(counts{}))
	flags, sharing := unix.O_RDWR|unix.O_CREAT, unix.MAP_SHARED
	if private {
		flags, sharing = unix.O_RDONLY, unix.MAP_PRIVATE
	}
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case st.Size == int64(size):
	case st.Size == 0 && !private:
		if err := unix.Ftruncate(fd, int64(size)); err != nil {
			return nil, &os.PathError{Op: "truncate", Path: path, Err: err}
		}
	default:
		return nil, errLayout
	}
	data, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, sharing)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: path, Err: err}
	}
	rec := &record{
		head:   (*recordHead)(unsafe.Pointer(&data[0])),
		path:   data[ledgerPath:ledgerRows],
		rows:   unsafe.Slice((*row)(unsafe.Pointer(&data[ledgerRows])), rows),
		counts: (*counts)(unsafe.Pointer(&data[countsAt])),
	}
	if rec.head.Magic != 0 && !rec.sane() {
		_ = unix.Munmap(data)
		return nil, errLayout
	}
	return &ledger{rec: rec, close: func() error { return unix.Munmap(data) }}, nil
}

// sane says whether a record that was found can be gone on with.
func (r *record) sane() bool {
	h := r.head
	return h.Magic == ledgerMagic && h.Rows == uint64(len(r.rows)) && h.Visible <= h.Shown && h.Shown <= h.Rows
}

// sweepLedgers removes the files whose cgroups are gone; inode maps a directory to the inode number that names its
// files.
func sweepLedgers(dir string, inode func(cgroupDir string) (uint64, bool)) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	buf := make([]byte, ledgerRows)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		f, err := os.Open(path)
		if err != nil {
			continue // somebody else removed it
		}
		n, _ := f.ReadAt(buf, 0)
		f.Close()
		if n == len(buf) && binary.NativeEndian.Uint64(buf) == ledgerMagic {
			of, _, whole := bytes.Cut(buf[ledgerPath:], []byte{0})
			if !whole {
				continue // nobody knows; it is gone with the next boot
			}
			if id, ok := inode(string(of)); ok && strings.HasPrefix(e.Name(), ledgerPrefix(id)) {
				continue
			}
		}
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(errs...)
}

// ledgerName names the file of a container: its cgroup's inode number and, as several inits may live in one cgroup one
// after the other, the start of its init.
func ledgerName(cgroupID uint64, start time.Duration) string {
	return ledgerPrefix(cgroupID) + strconv.FormatInt(int64(start/(time.Second/userHz)), 16)
}

func ledgerPrefix(cgroupID uint64) string { return strconv.FormatUint(cgroupID, 16) + "-" }
