package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"

	"github.com/scopefs/scopefs/fs/policy"
)

const defaultConfig = "/etc/scopefs/config.toml"

// config is the configuration of the daemon. A flag on the command line wins over the file.
type config struct {
	Mount       string
	LXCFSCompat string
	Socket      string
	LogLevel    slog.Level
	MaxAge      time.Duration
	Policy      policy.Policy
}

// defaults are the configuration that holds without a file and flags.
func defaults() config { return config{Mount: defaultMount, MaxAge: defaultMaxAge} }

// configKey is one key of the file.
type configKey struct {
	name string
	// set takes the value that the file has. Its error says what is wrong with it, and what is allowed.
	set func(c *config, value any) error
	// get is the value as it would be written in the file; "" for none.
	get func(c *config) string
}

// configKeys are all keys but the table of files: those of the daemon, and the policies.
var configKeys = func() []configKey {
	keys := []configKey{
		pathKey("mount", func(c *config) *string { return &c.Mount }),
		pathKey("lxcfs_compat", func(c *config) *string { return &c.LXCFSCompat }),
		pathKey("socket", func(c *config) *string { return &c.Socket }),
		{
			name: "log_level",
			set: func(c *config, value any) error {
				text, _ := value.(string)
				level, err := parseLogLevel(text)
				if err != nil {
					return fmt.Errorf("log_level is %s; it is one of %s", written(value), strings.Join(logLevels, ", "))
				}
				c.LogLevel = level
				return nil
			},
			get: func(c *config) string { return strconv.Quote(strings.ToLower(c.LogLevel.String())) },
		},
		{
			name: "max_age",
			set: func(c *config, value any) error {
				text, _ := value.(string)
				age, err := parseMaxAge(text)
				if err != nil {
					return fmt.Errorf("max_age is %s; %w, in quotes", written(value), err)
				}
				c.MaxAge = age
				return nil
			},
			get: func(c *config) string { return strconv.Quote(c.MaxAge.String()) },
		},
	}
	for _, s := range policy.Settings {
		keys = append(keys, policyKey(s))
	}
	return keys
}()

// filesKey is the table with a key for each of policy.Files.
const filesKey = policy.FilesSetting

var logLevels = []string{"debug", "info", "warn", "error"}

func parseLogLevel(text string) (level slog.Level, err error) {
	if !slices.Contains(logLevels, text) {
		return 0, fmt.Errorf("it is one of %s", strings.Join(logLevels, ", "))
	}
	return level, level.UnmarshalText([]byte(text))
}

const (
	defaultMaxAge = 5 * time.Millisecond
	longestMaxAge = time.Second
)

func parseMaxAge(text string) (time.Duration, error) {
	age, err := time.ParseDuration(text)
	if err != nil || age < 0 || age > longestMaxAge {
		return 0, fmt.Errorf("it is a time such as %v, from 0 to %v", defaultMaxAge, longestMaxAge)
	}
	return age, nil
}

func pathKey(name string, field func(*config) *string) configKey {
	return configKey{
		name: name,
		set: func(c *config, value any) error {
			path, ok := value.(string)
			if !ok || !filepath.IsAbs(path) {
				return fmt.Errorf("%s is %s; it is an absolute path in quotes", name, written(value))
			}
			*field(c) = path
			return nil
		},
		get: func(c *config) string {
			if path := *field(c); path != "" {
				return strconv.Quote(path)
			}
			return ""
		},
	}
}

func policyKey(s policy.Setting) configKey {
	if s.Toggle() {
		return configKey{
			name: s.Name,
			set: func(c *config, value any) error {
				on, ok := value.(bool)
				if !ok {
					return fmt.Errorf("%s is %s; it is true or false", s.Name, written(value))
				}
				return c.Policy.Set(s.Name, map[bool]string{true: "on", false: "off"}[on])
			},
			get: func(c *config) string { return strconv.FormatBool(c.Policy.Text()[s.Name] == "on") },
		}
	}
	return configKey{
		name: s.Name,
		set: func(c *config, value any) error {
			text, ok := value.(string)
			if !ok {
				return fmt.Errorf("%s is %s; it is one of %s, in quotes", s.Name, written(value), strings.Join(s.Allowed, ", "))
			}
			return c.Policy.Set(s.Name, text)
		},
		get: func(c *config) string { return strconv.Quote(c.Policy.Text()[s.Name]) },
	}
}

// written is a value as somebody may have written it.
func written(value any) string {
	switch v := value.(type) {
	case string:
		return strconv.Quote(v)
	case map[string]any, []map[string]any:
		return "a table"
	case []any:
		return "an array"
	}
	return fmt.Sprint(value)
}

// configProblem is what is wrong with a line of the file, counted from 1.
type configProblem struct {
	line int
	text string
}

// configError is everything that is wrong with a file.
type configError struct {
	path     string
	problems []configProblem
}

// lines are the problems, each with its file and line.
func (e *configError) lines() (lines []string) {
	for _, p := range e.problems {
		lines = append(lines, fmt.Sprintf("%s, line %d: %s", e.path, p.line, p.text))
	}
	return lines
}

func (e *configError) Error() string { return strings.Join(e.lines(), "\n") }

// readConfig reads path over the defaults. A file that is missing is no error unless the user named it.
func readConfig(path string, named bool) (config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		text, err = nil, nil
	}
	if err != nil {
		return defaults(), err
	}
	c, problems := parseConfig(string(text))
	if len(problems) > 0 {
		return c, &configError{path, problems}
	}
	return c, nil
}

// parseConfig reads a file's text over the defaults. With problems, which are in the order of their lines, the configuration
// has what was right.
func parseConfig(text string) (config, []configProblem) {
	c := defaults()
	var p configParser
	var keys map[string]toml.Primitive
	meta, err := toml.Decode(text, &keys)
	if err != nil {
		line := 1
		var at toml.ParseError
		if errors.As(err, &at) {
			line, err = max(at.Position.Line, 1), errors.New(at.Message)
		}
		return c, []configProblem{{line, err.Error()}}
	}
	p.meta = meta
	for name, value := range keys {
		i := slices.IndexFunc(configKeys, func(k configKey) bool { return k.name == name })
		switch {
		case name == filesKey:
			p.files(&c, value)
		case i < 0:
			var names []string
			for _, k := range configKeys {
				names = append(names, k.name)
			}
			p.report(value, fmt.Errorf("there is no key %q; the keys are %s and the table %s", name, strings.Join(names, ", "), filesKey))
		default:
			p.report(value, configKeys[i].set(&c, p.value(value)))
		}
	}
	slices.SortFunc(p.problems, func(a, b configProblem) int {
		return cmp.Or(cmp.Compare(a.line, b.line), strings.Compare(a.text, b.text))
	})
	return c, p.problems
}

// configParser takes the parts of a file.
type configParser struct {
	meta     toml.MetaData
	problems []configProblem
}

// files takes the table of files.
func (p *configParser) files(c *config, table toml.Primitive) {
	var files map[string]toml.Primitive
	if _, ok := p.value(table).(map[string]any); !ok || p.meta.PrimitiveDecode(table, &files) != nil {
		p.report(table, fmt.Errorf("%s is %s; it is a table [%[1]s] with lines such as \"pressure/io\" = false", filesKey, written(p.value(table))))
		return
	}
	for name, value := range files {
		shown, ok := p.value(value).(bool)
		sign := map[bool]string{true: "+", false: "-"}[shown]
		switch {
		case !slices.Contains(policy.Files, name):
			p.report(value, fmt.Errorf("there is no file %q; the files are %s", name, strings.Join(policy.Files, ", ")))
		case !ok:
			p.report(value, fmt.Errorf("%s.%s is %s; it is true or false", filesKey, name, written(p.value(value))))
		default:
			p.report(value, c.Policy.Set(filesKey, sign+name))
		}
	}
}

func (p *configParser) value(of toml.Primitive) (value any) {
	_ = p.meta.PrimitiveDecode(of, &value) // into any it cannot fail
	return value
}

// report notes an error with the line of a value.
func (p *configParser) report(at toml.Primitive, err error) {
	if err != nil {
		p.problems = append(p.problems, configProblem{max(p.line(at), 1), err.Error()})
	}
}

// line is where a value is, 0 if nothing tells. A table that has no header of its own, as in a.b = 1, is where its first
// key is.
func (p *configParser) line(of toml.Primitive) (line int) {
	var at toml.ParseError
	if errors.As(p.meta.PrimitiveDecode(of, refusal{}), &at) && at.Position.Line > 0 {
		return at.Position.Line
	}
	var table map[string]toml.Primitive
	if p.meta.PrimitiveDecode(of, &table) == nil {
		for _, value := range table {
			if n := p.line(value); n > 0 && (line == 0 || n < line) {
				line = n
			}
		}
	}
	return line
}

// refusal takes no value: the error of the parser then says where it is, which it tells of nothing else.
type refusal struct{}

func (refusal) UnmarshalTOML(any) error { return errors.New("refused") }

// write writes the configuration as a file would have it.
func (c *config) write(out io.Writer) error {
	var text strings.Builder
	for _, k := range configKeys {
		if value := k.get(c); value != "" {
			fmt.Fprintf(&text, "%s = %s\n", k.name, value)
		}
	}
	fmt.Fprintf(&text, "\n[%s]\n", filesKey)
	for _, name := range policy.Files {
		fmt.Fprintf(&text, "%q = %t\n", name, c.Policy.Shows(name))
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check or show the configuration of the daemon"}
	read := func(args []string) (string, config, error) {
		path := defaultConfig
		if len(args) > 0 {
			path = args[0]
		}
		c, err := readConfig(path, len(args) > 0)
		return path, c, err
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration file (default " + defaultConfig + ")",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, _, err := read(args)
			if err != nil {
				return err
			}
			state := "ok"
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				state = "there is no such file, so the defaults hold"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", path, state)
			return err
		},
	}, &cobra.Command{
		Use:   "show [FILE]",
		Short: "Print what a configuration file (default " + defaultConfig + ") sets, and the defaults",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, c, err := read(args)
			if err != nil {
				return err
			}
			return c.write(cmd.OutOrStdout())
		},
	})
	return cmd
}
