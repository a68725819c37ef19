package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// sends tries sync, async, oneway and batch sends with bodies of 1 byte to 1 MiB and compares what is consumed.
func sends(e *env) (string, error) {
	p := e.producer()
	topic := e.topic(p, "t")
	ctx := context.Background()
	random := make([]byte, 1<<20)
	rand.New(rand.NewSource(1)).Read(random)
	bodies := map[string][]byte{
		"one-byte":        {0},
		"utf8":            []byte("grüße, 世界, 🚀, {json:1}\n\ttab"),
		"compressed":      bytes.Repeat([]byte("it repeats itself; "), (1<<20)/19),
		"mib":             random,
		"compressed-4097": bytes.Repeat([]byte("x"), 4097),
	}
	for i := 0; i < 20; i++ {
		for _, kind := range []string{"async", "oneway", "batch"} {
			bodies[fmt.Sprintf("%s%d", kind, i)] = []byte(fmt.Sprintf("%s 世界 %d", kind, i))
		}
	}
	message := func(key string) *primitive.Message {
		m := primitive.NewMessage(topic, bodies[key]).WithTag("tag-" + key).WithKeys([]string{key, "second"})
		m.WithProperty("mine", "größe of "+key)
		return m
	}
	var mu sync.Mutex
	results := map[string]*primitive.SendResult{}
	keep := func(key string, r *primitive.SendResult) {
		mu.Lock()
		defer mu.Unlock()
		results[key] = r
	}

	var pending sync.WaitGroup
	var asyncErr atomic.Value
	var batch []*primitive.Message
	for key := range bodies {
		key := key
		switch {
		case strings.HasPrefix(key, "async"):
			pending.Add(1)
			err := p.SendAsync(ctx, func(_ context.Context, r *primitive.SendResult, err error) {
				defer pending.Done()
				if err != nil {
					asyncErr.Store(err)
					return
				}
				keep(key, r)
			}, message(key))
			check(err == nil, "async send: %v", err)
		case strings.HasPrefix(key, "oneway"):
			err := p.SendOneWay(ctx, message(key))
			check(err == nil, "oneway send: %v", err)
		case strings.HasPrefix(key, "batch"):
			batch = append(batch, message(key))
		default:
			r, err := p.SendSync(ctx, message(key))
			check(err == nil, "sync send of %s: %v", key, err)
			keep(key, r)
		}
	}
	pending.Wait()
	check(asyncErr.Load() == nil, "async send: %v", asyncErr.Load())
	r, err := p.SendSync(ctx, batch...)
	check(err == nil && r.Status == primitive.SendOK, "batch send: %v %v", r, err)
	check(len(strings.Split(r.OffsetMsgID, ",")) == len(batch), "offset ids of a batch of %d: %s", len(batch), r.OffsetMsgID)

	got := newSeen()
	e.push(e.name("g"), topic, "*", got.handler)
	until(40, func() bool { return got.distinct() >= len(bodies) }, "%d messages", len(bodies))
	byKey := map[string]*primitive.MessageExt{}
	for _, m := range got.all() {
		key := strings.Split(m.GetKeys(), " ")[0]
		check(byKey[key] == nil, "%s was consumed twice", key)
		byKey[key] = m
	}
	for key, body := range bodies {
		m := byKey[key]
		check(m != nil, "%s was not consumed", key)
		check(bytes.Equal(m.Body, body), "%s: the body differs", key)
		check(m.GetTags() == "tag-"+key, "%s: tag %s", key, m.GetTags())
		check(m.GetProperty("mine") == "größe of "+key, "%s: property %s", key, m.GetProperty("mine"))
		if r := results[key]; r != nil {
			check(r.Status == primitive.SendOK, "%s: status %d", key, r.Status)
			check(m.MsgId == r.MsgID, "%s: msgId %s, sent %s", key, m.MsgId, r.MsgID)
			check(m.QueueOffset == r.QueueOffset && m.Queue.QueueId == r.MessageQueue.QueueId, "%s: position %d/%d, sent %d/%d",
				key, m.Queue.QueueId, m.QueueOffset, r.MessageQueue.QueueId, r.QueueOffset)
		}
	}
	return fmt.Sprintf("messages=%d results=%d", len(bodies), len(results)), nil
}

// clustering shares the queues between two consumers; one leaves and the other takes all.
func clustering(e *env) (string, error) {
	const messages = 160
	p := e.producer()
	topic := e.topic(p, "t")
	group := e.name("g")
	a, b := newSeen(), newSeen()
	consumerA := e.push(group, topic, "*", a.handler)
	e.push(group, topic, "*", b.handler)

	// each round sends to all queues, and is repeated until the group has settled
	round := func(name string, settled func(byA, byB map[int]bool) bool) {
		n := 0
		until(50, func() bool {
			n++
			for i := 0; i < messages; i++ {
				_, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte(fmt.Sprintf("%s %d %d", name, n, i))))
				check(err == nil, "send: %v", err)
			}
			prefix := fmt.Sprintf("%s %d ", name, n)
			byA, byB := map[int]bool{}, map[int]bool{}
			until(40, func() bool {
				count := 0
				for i := 0; i < messages; i++ {
					body := fmt.Sprintf("%s%d", prefix, i)
					inA, inB := a.of(body), b.of(body)
					if len(inA)+len(inB) > 0 {
						count++
					}
					for _, m := range inA {
						byA[m.Queue.QueueId] = true
					}
					for _, m := range inB {
						byB[m.Queue.QueueId] = true
					}
				}
				return count == messages
			}, "%s: all %d messages", name, messages)
			if !settled(byA, byB) {
				time.Sleep(time.Second)
				return false
			}
			return true
		}, "%s: the queues shared as expected", name)
	}
	round("two", func(byA, byB map[int]bool) bool {
		for q := range byA {
			if byB[q] {
				return false
			}
		}
		return len(byA) == autoQueues/2 && len(byB) == autoQueues/2
	})
	check(consumerA.Shutdown() == nil, "shutdown")
	round("left", func(byA, byB map[int]bool) bool { return len(byA) == 0 && len(byB) == autoQueues })
	return fmt.Sprintf("queues=%d consumed=%d", autoQueues, a.distinct()+b.distinct()), nil
}

// tags subscribes groups to one tag, two tags and all.
func tags(e *env) (string, error) {
	const each = 20
	p := e.producer()
	topic := e.topic(p, "t")
	want := map[string]int{"*": 3 * each, "a || b": 2 * each, "c": each, "none": 0}
	groups := map[string]*seen{}
	for expression := range want {
		groups[expression] = newSeen()
		e.push(e.name(fmt.Sprintf("g%d", len(groups))), topic, expression, groups[expression].handler)
	}
	for i := 0; i < each; i++ {
		for _, tag := range []string{"a", "b", "c"} {
			_, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte(fmt.Sprintf("%s %d", tag, i))).WithTag(tag))
			check(err == nil, "send: %v", err)
		}
	}
	for expression, n := range want {
		expression, n := expression, n
		until(40, func() bool { return groups[expression].distinct() >= n }, "<%s> gets %d", expression, n)
	}
	time.Sleep(500 * time.Millisecond)
	for expression, n := range want {
		check(len(groups[expression].all()) == n, "<%s> got %d, want %d", expression, len(groups[expression].all()), n)
	}
	return fmt.Sprintf("expressions=%d", len(want)), nil
}

// retry fails a message once by default (10 s) and another one twice with delay level 1 (1 s).
func retry(e *env) (string, error) {
	p := e.producer()
	topic := e.topic(p, "t")
	group := e.name("g")
	// the first consumer's heartbeat makes the retry topic, the second one has it in its first route
	first := e.push(group, topic, "*", newSeen().handler)
	time.Sleep(time.Second)
	check(first.Shutdown() == nil, "shutdown")

	type delivery struct {
		at time.Time
		m  *primitive.MessageExt
	}
	var mu sync.Mutex
	deliveries := map[string][]delivery{}
	e.push(group, topic, "*", func(ctx context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mu.Lock()
		defer mu.Unlock()
		body := string(msgs[0].Body)
		deliveries[body] = append(deliveries[body], delivery{time.Now(), msgs[0]})
		n := len(deliveries[body])
		if body == "level-1" {
			if c, ok := primitive.GetConcurrentlyCtx(ctx); ok {
				c.DelayLevelWhenNextConsume = 1
			}
		}
		if body == "later" && n == 1 || body == "level-1" && n <= 2 {
			return consumer.ConsumeRetryLater, nil
		}
		return consumer.ConsumeSuccess, nil
	})
	for _, body := range []string{"fine", "later", "level-1"} {
		m := primitive.NewMessage(topic, []byte(body)).WithTag("tag").WithKeys([]string{"key-" + body})
		_, err := p.SendSync(context.Background(), m)
		check(err == nil, "send: %v", err)
	}
	count := func(body string) int {
		mu.Lock()
		defer mu.Unlock()
		return len(deliveries[body])
	}
	until(40, func() bool { return count("fine") == 1 && count("later") == 2 && count("level-1") == 3 }, "all retries")
	mu.Lock()
	defer mu.Unlock()
	for body, l := range deliveries {
		for n, d := range l {
			check(body == "first" || d.m.ReconsumeTimes == int32(n), "%s delivery %d: reconsumeTimes %d", body, n, d.m.ReconsumeTimes)
			check(d.m.Topic == topic, "%s delivery %d: topic %s", body, n, d.m.Topic)
		}
	}
	later := deliveries["later"][1].at.Sub(deliveries["later"][0].at)
	check(later > 9500*time.Millisecond && later < 25*time.Second, "delay level 3 (10 s) took %v", later)
	level1 := deliveries["level-1"][1].at.Sub(deliveries["level-1"][0].at)
	check(level1 > 900*time.Millisecond && level1 < 8*time.Second, "delay level 1 (1 s) took %v", level1)
	return fmt.Sprintf("later_ms=%d level1_ms=%d", later.Milliseconds(), level1.Milliseconds()), nil
}
