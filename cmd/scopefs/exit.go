package main

import "strconv"

// statusError ends the program with an exit status that is not a failure of its own, so nothing is printed.
type statusError int

func (e statusError) Error() string { return "exit status " + strconv.Itoa(int(e)) }

// exitStatus returns nil for 0.
func exitStatus(status int) error {
	if status == 0 {
		return nil
	}
	return statusError(status)
}
