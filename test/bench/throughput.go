package main

func runThroughput(b *bench) error         { return nil }
func reportThroughput(r *Result, p *page)  {}
func throughputBudgets(r *Result) []Budget { return nil }
