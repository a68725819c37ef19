package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// failoverFeatures keeps transactions and ordered messages going while something outside kills the leader: what was acknowledged and
// is to be delivered comes, what was rolled back does not, and the order of each key holds. It prints RUNNING when both are under way.
type failoverFeatures struct {
	seconds int
	rate    float64
	prefix  string

	mu        sync.Mutex
	halves    map[string]bool
	committed *seen
	ordered   map[string]bool
	steps     map[string][]int
	failed    int
	abandoned int
	errors    map[string]int
}

const orderKeys = 8

func parseFailoverFeatures(a []string) (*failoverFeatures, error) {
	if len(a) != 3 {
		return nil, fmt.Errorf("usage: failover-features SECONDS RATE PREFIX")
	}
	seconds, err1 := strconv.Atoi(a[0])
	rate, err2 := strconv.ParseFloat(a[1], 64)
	if err1 != nil || err2 != nil {
		return nil, fmt.Errorf("not numbers: %v", a[:2])
	}
	return &failoverFeatures{seconds: seconds, rate: rate, prefix: a[2], halves: map[string]bool{}, committed: newSeen(), ordered: map[string]bool{},
		steps: map[string][]int{}, errors: map[string]int{}}, nil
}

// ExecuteLocalTransaction leaves every other transaction open until the broker asks.
func (f *failoverFeatures) ExecuteLocalTransaction(m *primitive.Message) primitive.LocalTransactionState {
	if strings.HasPrefix(string(m.Body), "open") {
		return primitive.UnknowState
	}
	return decided(string(m.Body))
}

func (f *failoverFeatures) CheckLocalTransaction(m *primitive.MessageExt) primitive.LocalTransactionState {
	return decided(string(m.Body))
}

func decided(body string) primitive.LocalTransactionState {
	if strings.Contains(body, "rollback") {
		return primitive.RollbackMessageState
	}
	return primitive.CommitMessageState
}

func (f *failoverFeatures) run(e *env) (string, error) {
	p := e.producerWith(producer.NewHashQueueSelector())
	tx, ordered := f.prefix+"-tx", f.prefix+"-ordered"
	for _, topic := range []string{tx, ordered} {
		until(30, func() bool {
			_, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte("first")).WithTag("first"))
			return err == nil
		}, "the first send, which makes %s", topic)
	}
	t, err := rocketmq.NewTransactionProducer(f, append(e.producerOptions(), producer.WithGroupName(f.prefix+"-tx-producer"), producer.WithSendMsgTimeout(3*time.Second))...)
	check(err == nil && t.Start() == nil, "new producer: %v", err)
	e.closing(t.Shutdown)
	e.push(tx+"-group", tx, "tag", f.committed.handler)
	e.pushWith(ordered+"-group", ordered, consumer.MessageSelector{Type: consumer.TAG, Expression: "tag"},
		func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, m := range msgs {
				words := strings.Fields(string(m.Body))
				step, _ := strconv.Atoi(words[1])
				f.steps[words[0]] = append(f.steps[words[0]], step)
			}
			return consumer.ConsumeSuccess, nil
		}, consumer.WithConsumerOrder(true))

	end := time.Now().Add(time.Duration(f.seconds) * time.Second)
	kinds := []string{"commit", "rollback", "open-commit", "open-rollback"}
	var workers sync.WaitGroup
	for _, attempt := range []func(int) (string, error){
		func(n int) (string, error) {
			body := fmt.Sprintf("%s %d", kinds[n%len(kinds)], n)
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			r, err := t.SendMessageInTransaction(ctx, primitive.NewMessage(tx, []byte(body)).WithTag("tag"))
			return body, sendError(err, func() primitive.SendStatus { return r.Status })
		},
		func(n int) (string, error) {
			key := fmt.Sprintf("key-%d", n%orderKeys)
			body := fmt.Sprintf("%s %d", key, n)
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			r, err := p.SendSync(ctx, primitive.NewMessage(ordered, []byte(body)).WithTag("tag").WithShardingKey(key))
			return body, sendError(err, func() primitive.SendStatus { return r.Status })
		},
	} {
		attempt := attempt
		workers.Add(1)
		go func() {
			defer workers.Done()
			f.produce(end, attempt)
		}()
	}
	until(60, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.committed.distinct() > 5 && len(f.steps) == orderKeys
	}, "first messages of both kinds through")
	fmt.Println("RUNNING")
	workers.Wait()
	for last := time.Now().Add(drainS * time.Second); time.Now().Before(last) && len(f.lost()) > 0; {
		time.Sleep(100 * time.Millisecond)
	}
	return f.report()
}

func sendError(err error, status func() primitive.SendStatus) error {
	if err == nil && status() != primitive.SendOK {
		return fmt.Errorf("status %d", status())
	}
	return err
}

func (f *failoverFeatures) produce(end time.Time, attempt func(int) (string, error)) {
	step := time.Duration(float64(time.Second) / f.rate)
	due := time.Now()
	for n := 0; time.Now().Before(end); n++ {
		time.Sleep(time.Until(due))
		if late := time.Now().Add(-100 * time.Millisecond); due.Before(late) {
			due = late
		}
		due = due.Add(step)
		for {
			body, err := attempt(n)
			f.mu.Lock()
			if err == nil {
				if strings.HasPrefix(body, "key-") {
					f.ordered[body] = true
				} else {
					f.halves[body] = true
				}
				f.mu.Unlock()
				break
			}
			f.failed++
			f.errors[digits(err.Error())]++
			f.mu.Unlock()
			if time.Now().After(end.Add(lastTries)) {
				f.mu.Lock()
				f.abandoned++
				f.mu.Unlock()
				break
			}
			time.Sleep(time.Duration(10+rand.Intn(90)) * time.Millisecond)
		}
	}
}

// lost is what was acknowledged, is to be delivered, and was not.
func (f *failoverFeatures) lost() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var l []string
	for body := range f.halves {
		if decided(body) == primitive.CommitMessageState && len(f.committed.of(body)) == 0 {
			l = append(l, body)
		}
	}
	came := map[string]bool{}
	for key, steps := range f.steps {
		for _, step := range steps {
			came[fmt.Sprintf("%s %d", key, step)] = true
		}
	}
	for body := range f.ordered {
		if !came[body] {
			l = append(l, body)
		}
	}
	return l
}

func (f *failoverFeatures) report() (string, error) {
	lost := f.lost()
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, body := range lost {
		if i < 20 {
			fmt.Fprintf(os.Stderr, "lost: %s\n", body)
		}
	}
	for text, n := range f.errors {
		fmt.Fprintf(os.Stderr, "%8d x %s\n", n, text)
	}
	line := fmt.Sprintf("poll_ms=30000 half_messages=%d committed=%d ordered=%d lost=%d failed_sends=%d abandoned=%d",
		len(f.halves), f.committed.distinct(), len(f.ordered), len(lost), f.failed, f.abandoned)
	check(len(lost) == 0, "acknowledged messages are lost: %s", line)
	check(f.abandoned == 0, "numbers that were never done with: %s", line)
	for _, m := range f.committed.all() {
		check(decided(string(m.Body)) == primitive.CommitMessageState, "<%s> was rolled back and came: %s", m.Body, line)
	}
	for key, steps := range f.steps {
		last, before := -1, map[int]bool{}
		for _, step := range steps {
			if !before[step] {
				check(step > last, "%s: %d came first after %d: %s", key, step, last, line)
				before[step], last = true, step
			}
		}
	}
	few := plausible * f.rate * float64(f.seconds)
	check(float64(len(f.halves)) >= few && float64(len(f.ordered)) >= few, "too few of %.0f of each: %s", f.rate*float64(f.seconds), line)
	return line, nil
}
