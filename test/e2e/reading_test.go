package e2e

func playWays(args []string) error    { return nil }
func playThreads(args []string) error { return nil }
