package control

import "fmt"

// MaxID is the longest name of a container, in bytes.
const MaxID = 128

// CheckID says whether id may name a container. Ids become names of directories in the mount and of cgroups, so nothing
// but letters, digits and three harmless signs passes, and no name that a path treats specially.
func CheckID(id string) error {
	if id == "" {
		return fmt.Errorf("container id is empty: want 1 to %d of A-Z a-z 0-9 . _ -", MaxID)
	}
	if len(id) > MaxID {
		return fmt.Errorf("container id %q… is %d bytes long, at most %d are allowed", id[:16], len(id), MaxID)
	}
	if id[0] == '.' {
		return fmt.Errorf("container id %q starts with a dot", id)
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("container id %q holds %q: want A-Z a-z 0-9 . _ -", id, c)
		}
	}
	return nil
}
