package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
)

const defaultConfig = "/etc/scopefs/config.toml"

// config is the configuration file of the daemon. A flag on the command line wins over it.
type config struct {
	Mount       string     `toml:"mount"`
	LXCFSCompat string     `toml:"lxcfs_compat"`
	Socket      string     `toml:"socket"`
	Swap        bool       `toml:"swap"`
	LogLevel    slog.Level `toml:"log_level"`
}

// readConfig reads path over the values in c. A file that is missing is no error unless the user named it.
func (c *config) readConfig(path string, named bool) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil
	}
	if err != nil {
		return err
	}
	meta, err := toml.Decode(string(text), c)
	var at toml.ParseError
	if errors.As(err, &at) {
		return fmt.Errorf("%s, line %d: %s", path, at.Position.Line, at.Message)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return fmt.Errorf("%s: unknown key %q; the keys are mount, lxcfs_compat, socket, swap and log_level",
			path, strings.Join(unknown[0], "."))
	}
	return nil
}
