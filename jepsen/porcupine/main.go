// The second opinion on histories of registers: reads JSON lines, one operation each, and writes what porcupine thinks of them.
//
// In:  {"key":0,"client":3,"write":true,"value":2,"call":12,"return":40}; value -1 stands for none, which is what a register begins
// with. Out: {"keys":7,"illegal":[3],"unknown":[]}; the exit status is 0 whatever the verdict is.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/anishathalye/porcupine"
)

// A key that takes longer is unknown.
const limit = 20 * time.Second

type operation struct {
	Key    int   `json:"key"`
	Client int   `json:"client"`
	Write  bool  `json:"write"`
	Value  int64 `json:"value"`
	Call   int64 `json:"call"`
	Return int64 `json:"return"`
}

type verdict struct {
	Keys    int   `json:"keys"`
	Illegal []int `json:"illegal"`
	Unknown []int `json:"unknown"`
}

var register = porcupine.Model{
	Init: func() any { return int64(-1) },
	Step: func(state, input, output any) (bool, any) {
		op := input.(operation)
		if op.Write {
			return true, op.Value
		}
		return output.(int64) == state.(int64), state
	},
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "porcupine:", err)
		os.Exit(1)
	}
}

func run() error {
	keys := map[int][]porcupine.Operation{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var op operation
		if err := json.Unmarshal(lines.Bytes(), &op); err != nil {
			return err
		}
		keys[op.Key] = append(keys[op.Key], porcupine.Operation{
			ClientId: op.Client, Input: op, Call: op.Call, Output: op.Value, Return: op.Return,
		})
	}
	if err := lines.Err(); err != nil {
		return err
	}
	out := verdict{Keys: len(keys), Illegal: []int{}, Unknown: []int{}}
	for key, ops := range keys {
		switch porcupine.CheckOperationsTimeout(register, ops, limit) {
		case porcupine.Illegal:
			out.Illegal = append(out.Illegal, key)
		case porcupine.Unknown:
			out.Unknown = append(out.Unknown, key)
		}
	}
	sort.Ints(out.Illegal)
	sort.Ints(out.Unknown)
	return json.NewEncoder(os.Stdout).Encode(out)
}
