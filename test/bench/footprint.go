package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// footprint is what a process holds.
type footprint struct {
	// RSS is the resident memory in kB: RssAnon is its own, RssFile is mapped from files, the program and scopefs' CPU
	// ledgers, RssShmem is shared memory.
	RSS, RssAnon, RssFile, RssShmem int
	// PSS is RSS with each page divided by the number of processes that map it, in kB.
	PSS         int
	Descriptors int
	Threads     int
}

func (p *process) footprint() (f footprint, err error) {
	dir := fmt.Sprintf("/proc/%d/", p.pid())
	for file, fields := range map[string]map[string]*int{
		"status": {"RssAnon": &f.RssAnon, "RssFile": &f.RssFile, "RssShmem": &f.RssShmem, "Threads": &f.Threads},
		// VmRSS of status may be off by some pages for each thread.
		"smaps_rollup": {"Rss": &f.RSS, "Pss": &f.PSS},
	} {
		text, err := os.ReadFile(dir + file)
		if err != nil {
			return f, err
		}
		for line := range bytes.Lines(text) {
			name, rest, _ := strings.Cut(string(line), ":")
			if field := fields[name]; field != nil {
				if *field, err = strconv.Atoi(strings.Fields(rest)[0]); err != nil {
					return f, fmt.Errorf("%s%s: %w", dir, file, err)
				}
			}
		}
	}
	f.Descriptors, err = p.descriptors()
	return f, err
}
