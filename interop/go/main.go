// Tests of a RocketMQ compatible cluster with the unmodified Go client.
//
//	interop-go all | SCENARIO...
//	interop-go failover SECONDS THREADS RATE TOPIC GROUP
//	interop-go failover-features SECONDS RATE PREFIX
//
// The name server is $NAMESRV_ADDR. Each scenario prints one line, PASS name key=value... or FAIL name reason;
// the exit code is 1 when any failed.
package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/rlog"
)

// The version in go.mod.
const clientVersion = "go-2.1.2"

type scenario struct {
	name string
	run  func(*env) (string, error)
}

var scenarios = []scenario{
	{"retry", retry},
	{"deadletters", deadletters},
	{"broadcasting", broadcasting},
	{"restart", restart},
	{"pull", pull},
	{"requestreply", requestreply},
	{"trace", trace},
	{"topics", topics},
	{"delay", delay},
	{"transactions", transactions},
	{"orderly", orderly},
	{"sql", sql},
	{"sends", sends},
	{"clustering", clustering},
	{"tags", tags},
}

func main() {
	// the client logs to the console, at info unless the environment says otherwise
	if os.Getenv("ROCKETMQ_GO_LOG_LEVEL") == "" {
		rlog.SetLogLevel("fatal")
	}
	args := os.Args[1:]
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: interop-go all | SCENARIO... | failover SECONDS THREADS RATE TOPIC GROUP | failover-features SECONDS RATE PREFIX")
		os.Exit(2)
	}
	if args[0] == "failover" || args[0] == "failover-features" {
		run, err := failoverRun(args)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		if !execute(scenario{"failover", run}) {
			os.Exit(1)
		}
		return
	}
	var wg sync.WaitGroup
	var failed sync.Map
	found := 0
	for _, s := range scenarios {
		if args[0] != "all" && !contains(args, s.name) {
			continue
		}
		found++
		wg.Add(1)
		go func(s scenario) {
			defer wg.Done()
			if !execute(s) {
				failed.Store(s.name, true)
			}
		}(s)
	}
	if args[0] != "all" && found != len(args) {
		fmt.Fprintf(os.Stderr, "no such scenario among %v\n", args)
		os.Exit(2)
	}
	wg.Wait()
	code := 0
	failed.Range(func(any, any) bool { code = 1; return false })
	os.Exit(code)
}

func failoverRun(args []string) (func(*env) (string, error), error) {
	if args[0] == "failover" {
		f, err := parseFailover(args[1:])
		return f.run, err
	}
	f, err := parseFailoverFeatures(args[1:])
	return f.run, err
}

func contains(l []string, s string) bool {
	for _, x := range l {
		if x == s {
			return true
		}
	}
	return false
}

// execute runs one scenario and prints its line. A failed check panics with a checkFailed.
func execute(s scenario) (ok bool) {
	begin := time.Now()
	e := newEnv(s.name)
	defer e.close()
	defer func() {
		if r := recover(); r != nil {
			f, expected := r.(checkFailed)
			if !expected {
				panic(r)
			}
			fmt.Printf("FAIL %s client=%s %s\n", s.name, clientVersion, strings.ReplaceAll(string(f), "\n", " "))
			ok = false
		}
	}()
	line, err := s.run(e)
	if err != nil {
		fmt.Printf("FAIL %s client=%s %s\n", s.name, clientVersion, strings.ReplaceAll(err.Error(), "\n", " "))
		return false
	}
	fmt.Printf("PASS %s client=%s %s seconds=%.1f\n", s.name, clientVersion, line, time.Since(begin).Seconds())
	return true
}
