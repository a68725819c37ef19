package main

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

const (
	// How long a number may still be tried after the end of the run. The Go client reads its routes every 30 s.
	lastTries = 60 * time.Second
	drainS    = 90
	// The share of rate x seconds that must be acknowledged.
	plausible = 0.2
)

// failover is a steady load while something outside kills the leader: every acknowledged message must be consumed, at the
// queue offset of its acknowledgement. It prints RUNNING when producers and consumer are under way.
type failover struct {
	seconds, threads int
	rate             float64
	topic, group     string

	mu         sync.Mutex
	next       int64
	acked      map[string]int64 // queue/offset/msgId to the number
	positions  map[string]bool
	sameOffset int
	consumed   map[string]bool
	numbers    map[int64]bool
	deliveries int
	corrupt    int
	failed     int
	abandoned  int
	errors     map[string]int
	lastAck    time.Time
	longestGap time.Duration
}

func parseFailover(a []string) (*failover, error) {
	if len(a) != 5 {
		return nil, fmt.Errorf("usage: failover SECONDS THREADS RATE TOPIC GROUP")
	}
	seconds, err1 := strconv.Atoi(a[0])
	threads, err2 := strconv.Atoi(a[1])
	rate, err3 := strconv.ParseFloat(a[2], 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return nil, fmt.Errorf("not numbers: %v", a[:3])
	}
	return &failover{seconds: seconds, threads: threads, rate: rate, topic: a[3], group: a[4],
		acked: map[string]int64{}, positions: map[string]bool{}, consumed: map[string]bool{}, numbers: map[int64]bool{}, errors: map[string]int{}}, nil
}

func (f *failover) run(e *env) (string, error) {
	p, err := rocketmq.NewProducer(
		producer.WithNameServer(namesrv()),
		producer.WithGroupName(f.group+"-producer"),
		producer.WithInstanceName(instance()),
		producer.WithRetry(2),
	)
	check(err == nil, "new producer: %v", err)
	check(p.Start() == nil, "the producer does not start")
	e.closing(p.Shutdown)
	until(30, func() bool {
		m := primitive.NewMessage(f.topic, []byte("first"))
		_, err := p.SendSync(context.Background(), m.WithTag("first"))
		return err == nil
	}, "the first send, which makes the topic")
	e.push(f.group, f.topic, "failover", f.consume)

	end := time.Now().Add(time.Duration(f.seconds) * time.Second)
	f.lastAck = time.Now()
	var workers sync.WaitGroup
	for i := 0; i < f.threads; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			f.produce(p, end)
		}()
	}
	until(60, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.acked) >= 5*f.threads && len(f.consumed) > 0
	}, "first messages through")
	fmt.Println("RUNNING")
	workers.Wait()
	for end := time.Now().Add(drainS * time.Second); time.Now().Before(end) && len(f.lost()) > 0; {
		time.Sleep(100 * time.Millisecond)
	}
	return f.report()
}

func (f *failover) produce(p rocketmq.Producer, end time.Time) {
	step := time.Duration(float64(time.Second) * float64(f.threads) / f.rate)
	due := time.Now()
	for time.Now().Before(end) {
		time.Sleep(time.Until(due))
		if late := time.Now().Add(-100 * time.Millisecond); due.Before(late) {
			due = late
		}
		due = due.Add(step)
		f.mu.Lock()
		number := f.next
		f.next++
		f.mu.Unlock()
		for !f.attempt(p, number) {
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

func (f *failover) attempt(p rocketmq.Producer, number int64) bool {
	body := fmt.Sprintf("number %d %s", number, strings.Repeat("x", 100))
	m := primitive.NewMessage(f.topic, []byte(body)).WithTag("failover").WithKeys([]string{fmt.Sprintf("n%d", number)})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	r, err := p.SendSync(ctx, m)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.failed++
		f.errors[digits(err.Error())]++
		return false
	}
	if r.Status != primitive.SendOK {
		f.failed++
		f.errors[fmt.Sprintf("status %d", r.Status)]++
		return false
	}
	position := fmt.Sprintf("%d/%d", r.MessageQueue.QueueId, r.QueueOffset)
	if f.positions[r.MessageQueue.BrokerName+"/"+position] {
		f.sameOffset++
	}
	f.positions[r.MessageQueue.BrokerName+"/"+position] = true
	f.acked[position+"/"+r.MsgID] = number
	now := time.Now()
	if gap := now.Sub(f.lastAck); gap > f.longestGap {
		f.longestGap = gap
	}
	f.lastAck = now
	return true
}

// digits makes error texts that differ in numbers only the same.
func digits(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '#'
		}
		return r
	}, strings.SplitN(s, "\n", 2)[0])
	for strings.Contains(s, "##") {
		s = strings.ReplaceAll(s, "##", "#")
	}
	if len(s) > 160 {
		s = s[:160]
	}
	return s
}

func (f *failover) consume(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range msgs {
		words := strings.Split(string(m.Body), " ")
		if len(words) < 3 || m.GetKeys() != "n"+words[1] {
			f.corrupt++
			continue
		}
		number, _ := strconv.ParseInt(words[1], 10, 64)
		f.numbers[number] = true
		f.consumed[fmt.Sprintf("%d/%d/%s", m.Queue.QueueId, m.QueueOffset, m.MsgId)] = true
		f.deliveries++
	}
	return consumer.ConsumeSuccess, nil
}

func (f *failover) lost() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var l []string
	for k := range f.acked {
		if !f.consumed[k] {
			l = append(l, k)
		}
	}
	sort.Strings(l)
	return l
}

func (f *failover) report() (string, error) {
	lost := f.lost()
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, k := range lost {
		if i < 20 {
			fmt.Fprintf(os.Stderr, "lost: number %d at %s\n", f.acked[k], k)
		}
	}
	for text, n := range f.errors {
		fmt.Fprintf(os.Stderr, "%8d x %s\n", n, text)
	}
	line := fmt.Sprintf("poll_ms=30000 acked=%d consumed=%d lost=%d duplicated=%d longest_gap_ms=%d failed_sends=%d abandoned=%d",
		len(f.acked), len(f.numbers), len(lost), f.deliveries-len(f.numbers), f.longestGap.Milliseconds(), f.failed, f.abandoned)
	check(len(lost) == 0, "acknowledged messages are lost: %s", line)
	check(f.sameOffset == 0, "%d acknowledgements of one and the same queue offset: %s", f.sameOffset, line)
	check(f.corrupt == 0, "%d messages whose body is not that of their key: %s", f.corrupt, line)
	check(float64(len(f.acked)) >= plausible*f.rate*float64(f.seconds), "too few acknowledged of %.0f: %s", f.rate*float64(f.seconds), line)
	return line, nil
}
