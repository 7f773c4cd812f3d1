package container

import (
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
const ledgerMagic = 0x73636f7065763033 // "scopev03"

// A ledger file is a recordHead, the path of the cgroup directory that it is about, the counts and the rows. It is sparse:
// only the pages that are in use exist.
const (
	ledgerPath   = 512       // offset of the path, 0-terminated
	ledgerCounts = 4096      // offset of the counts
	ledgerTable  = 16 * 1024 // offset of the rows
)

// The counts fit in before the rows.
var _ [ledgerTable - ledgerCounts - unsafe.Sizeof(counts{})]struct{}

// openLedger maps the ledger file name in dir, and makes it when it is missing, so that the counters go on where an
// earlier daemon left them. With dir empty the ledger lives in memory. With private set nothing is written back:
// `scopefs show` looks at the daemon's numbers without moving them.
func openLedger(dir, name, cgroupDir string, rows int, private bool) (*ledger, error) {
	inMemory := &ledger{rec: newRecord(rows), close: func() error { return nil }}
	if dir == "" {
		return inMemory, nil
	}
	path := filepath.Join(dir, name)
	size := ledgerTable + rows*int(unsafe.Sizeof(row{}))
	flags, sharing := unix.O_RDWR|unix.O_CREAT, unix.MAP_SHARED
	if private {
		flags, sharing = unix.O_RDONLY, unix.MAP_PRIVATE
	}
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
	if private && errors.Is(err, unix.ENOENT) {
		return inMemory, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if private && st.Size < int64(size) {
		return inMemory, nil
	}
	// Never shortened: a mapping of another process would fault beyond the end.
	if !private && st.Size < int64(size) {
		if err := unix.Ftruncate(fd, int64(size)); err != nil {
			return nil, &os.PathError{Op: "truncate", Path: path, Err: err}
		}
	}
	data, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, sharing)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: path, Err: err}
	}
	rec := &record{
		head:   (*recordHead)(unsafe.Pointer(&data[0])),
		counts: (*counts)(unsafe.Pointer(&data[ledgerCounts])),
		rows:   unsafe.Slice((*row)(unsafe.Pointer(&data[ledgerTable])), rows),
	}
	if !rec.sane() {
		clear(data)
		rec.head.Magic = ledgerMagic
		copy(data[ledgerPath:ledgerCounts-1], cgroupDir)
	}
	return &ledger{rec: rec, close: func() error { return unix.Munmap(data) }}, nil
}

// sane says whether a record that was found can be gone on with.
func (r *record) sane() bool {
	h := r.head
	return h.Magic == ledgerMagic && h.Visible <= h.Shown && h.Shown <= uint64(len(r.rows))
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
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		f, err := os.Open(path)
		if err != nil {
			continue // somebody else removed it
		}
		buf := make([]byte, ledgerCounts)
		n, _ := f.ReadAt(buf, 0)
		f.Close()
		if n == len(buf) {
			of, _, _ := strings.Cut(string(buf[ledgerPath:]), "\x00")
			if id, ok := inode(of); ok && strings.HasPrefix(e.Name(), ledgerPrefix(id)) {
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
