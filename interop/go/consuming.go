package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// sendAll sends a message for each body.
func sendAll(p rocketmq.Producer, topic string, bodies []string) {
	for _, body := range bodies {
		m := primitive.NewMessage(topic, []byte(body)).WithTag("tag").WithKeys([]string{"key-" + body})
		r, err := p.SendSync(context.Background(), m.WithShardingKey(body))
		check(err == nil && r.Status == primitive.SendOK, "send of %s: %v %v", body, r, err)
	}
}

func numbered(prefix string, n int) []string {
	l := make([]string, n)
	for i := range l {
		l[i] = fmt.Sprintf("%s %d", prefix, i)
	}
	return l
}

// exactly asserts that each of these bodies came once, and nothing else.
func (s *seen) exactly(bodies []string, who string) {
	check(len(s.all()) == len(bodies), "%s: %d deliveries, want %d", who, len(s.all()), len(bodies))
	for _, body := range bodies {
		check(len(s.of(body)) == 1, "%s: <%s> came %d times", who, body, len(s.of(body)))
	}
}

// forget asserts that a body came so many times, and leaves it out of what follows.
func (s *seen) forget(body string, times int) {
	check(len(s.of(body)) == times, "<%s> came %d times, want %d", body, len(s.of(body)), times)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byBody, body)
}

// pushOnceThere starts a push consumer on a topic that may not be there yet: then this client's consumer does not start.
func (e *env) pushOnceThere(group, topic string, h handler) {
	until(60, func() bool {
		c, err := rocketmq.NewPushConsumer(consumer.WithNameServer(namesrv()), consumer.WithGroupName(group), consumer.WithInstance(instance()),
			consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
		check(err == nil, "new consumer: %v", err)
		check(c.Subscribe(topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "*"}, h) == nil, "subscribe")
		if c.Start() == nil {
			e.closing(c.Shutdown)
			return true
		}
		time.Sleep(500 * time.Millisecond)
		return false
	}, "a consumer of %s", topic)
}

// broadcasting: two consumers of a group, each gets everything.
func broadcasting(e *env) (string, error) {
	p := e.producer()
	topic := e.topic(p, "t")
	group := e.name("g")
	readers := []*seen{newSeen(), newSeen()}
	// a broadcasting consumer keeps its offsets in a file of its instance and starts at the end: it says when it is there
	for i, s := range readers {
		e.pushWith(group, topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "tag || probe"}, s.handler,
			consumer.WithConsumerModel(consumer.BroadCasting))
		n := 0
		until(60, func() bool {
			n++
			body := fmt.Sprintf("probe %d %d", i, n)
			_, err := p.SendSync(context.Background(), primitive.NewMessage(topic, []byte(body)).WithTag("probe"))
			time.Sleep(500 * time.Millisecond)
			return err == nil && len(s.of(body)) > 0
		}, "consumer %d reads", i)
	}
	bodies := numbered("everybody", 100)
	sendAll(p, topic, bodies)
	for i, s := range readers {
		until(60, func() bool {
			for _, body := range bodies {
				if len(s.of(body)) == 0 {
					return false
				}
			}
			return true
		}, "consumer %d gets all %d", i, len(bodies))
	}
	time.Sleep(time.Second)
	for i, s := range readers {
		for _, body := range bodies {
			check(len(s.of(body)) == 1, "consumer %d got <%s> %d times", i, body, len(s.of(body)))
		}
	}
	return fmt.Sprintf("consumers=%d messages=%d", len(readers), len(bodies)), nil
}

// restart: a group goes on where it stopped.
func restart(e *env) (string, error) {
	p := e.producer()
	topic := e.topic(p, "t")
	group := e.name("g")
	before, away, after := numbered("before", 40), numbered("away", 40), numbered("after", 40)
	sendAll(p, topic, before)
	first := newSeen()
	c := e.push(group, topic, "*", first.handler)
	until(60, func() bool { return first.distinct() >= len(before) }, "the first %d", len(before))
	time.Sleep(time.Second)
	check(c.Shutdown() == nil, "shutdown")
	sendAll(p, topic, away)
	second := newSeen()
	e.push(group, topic, "*", second.handler)
	sendAll(p, topic, after)
	rest := append(away, after...)
	until(60, func() bool { return second.distinct() >= len(rest) }, "the rest of %d", len(rest))
	time.Sleep(time.Second)
	first.exactly(before, "before the restart")
	second.exactly(rest, "after the restart")
	return fmt.Sprintf("before=%d after=%d", len(before), len(rest)), nil
}

// deadletters: a message that fails too often comes to %DLQ% of its group as itself, once; those beside it do not.
func deadletters(e *env) (string, error) {
	const attempts = 2
	p := e.producer()
	topic := e.topic(p, "t")
	group := e.name("g")
	// the first consumer's heartbeat makes the retry topic, the second one has it in its first route
	first := e.push(group, topic, "*", newSeen().handler)
	time.Sleep(time.Second)
	check(first.Shutdown() == nil, "shutdown")
	var mu sync.Mutex
	times := map[string]int{}
	e.pushWith(group, topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "tag"},
		func(ctx context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			mu.Lock()
			defer mu.Unlock()
			body := string(msgs[0].Body)
			times[body]++
			if body == "bad 0" || body == "bad 1" {
				if c, ok := primitive.GetConcurrentlyCtx(ctx); ok {
					c.DelayLevelWhenNextConsume = 1
				}
				return consumer.ConsumeRetryLater, nil
			}
			return consumer.ConsumeSuccess, nil
		}, consumer.WithMaxReconsumeTimes(attempts), consumer.WithConsumeMessageBatchMaxSize(1))
	bad, good := numbered("bad", 2), numbered("good", 10)
	sendAll(p, topic, append(append([]string{}, bad...), good...))
	dead := newSeen()
	dlq := "%DLQ%" + group
	until(60, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return times["bad 0"] == attempts+1 && times["bad 1"] == attempts+1 && len(times) == len(bad)+len(good)
	}, "%d deliveries of what fails", attempts+1)
	e.pushOnceThere(e.name("dead"), dlq, dead.handler)
	until(60, func() bool { return dead.distinct() >= len(bad) }, "%d dead letters", len(bad))
	time.Sleep(time.Second)
	dead.exactly(bad, "dead letters")
	for _, m := range dead.all() {
		check(m.GetKeys() == "key-"+string(m.Body) && m.GetTags() == "tag", "dead letter %v", m)
	}
	mu.Lock()
	defer mu.Unlock()
	for body, n := range times {
		want := 1
		if body == "bad 0" || body == "bad 1" {
			want = attempts + 1
		}
		check(n == want, "<%s> was delivered %d times, want %d", body, n, want)
	}
	return fmt.Sprintf("dead_letters=%d attempts=%d", len(bad), attempts+1), nil
}

// waiting: a pull at the end of a queue is answered as soon as a message comes.
func waiting(c rocketmq.PullConsumer, p rocketmq.Producer, topic string) {
	m := primitive.NewMessage(topic, []byte("late")).WithTag("late")
	r, err := p.SendSync(context.Background(), m)
	check(err == nil, "send: %v", err)
	queue := r.MessageQueue
	go func() {
		for i := 0; i < autoQueues; i++ {
			time.Sleep(300 * time.Millisecond)
			_, _ = p.SendSync(context.Background(), primitive.NewMessage(topic, []byte("late")).WithTag("tag"))
		}
	}()
	begin := time.Now()
	pulled, err := c.PullFrom(context.Background(), queue, r.QueueOffset+1, 7)
	took := time.Since(begin)
	check(err == nil && pulled.Status == primitive.PullFound && len(pulled.GetMessageExts()) == 1, "a waiting pull: %v %v", pulled, err)
	check(string(pulled.GetMessageExts()[0].Body) == "late" && took > 100*time.Millisecond && took < 8*time.Second, "a waiting pull took %v", took)
	time.Sleep(autoQueues * 300 * time.Millisecond)
}

// pull reads queues by offset with every pull status, then polls as a member of a group, which goes on where another one stopped.
func pull(e *env) (string, error) {
	const messages = 60
	p := e.producer()
	topic := e.topic(p, "t")
	bodies := numbered("pull", messages)
	sendAll(p, topic, bodies)
	puller := func(group string) rocketmq.PullConsumer {
		c, err := rocketmq.NewPullConsumer(consumer.WithNameServer(namesrv()), consumer.WithGroupName(group), consumer.WithInstance(instance()),
			consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
		check(err == nil, "new consumer: %v", err)
		check(c.Subscribe(topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "tag"}) == nil, "subscribe")
		check(c.Start() == nil, "the pull consumer does not start")
		e.closing(c.Shutdown)
		return c
	}
	c := puller(e.name("offsets"))
	queues := e.queues(topic)
	check(len(queues) == autoQueues, "%d queues", len(queues))
	got := newSeen()
	for _, q := range queues {
		next := int64(0)
		for end := int64(1); next < end; {
			r, err := c.PullFrom(context.Background(), q, next, 7)
			check(err == nil, "pull at %d of %v: %v", next, q, err)
			check(r.Status == primitive.PullFound || r.Status == primitive.PullNoMsgMatched, "pull at %d: status %d", next, r.Status)
			check(r.MinOffset == 0 && r.NextBeginOffset > next, "pull at %d: %v", next, r)
			for _, m := range r.GetMessageExts() {
				check(m.QueueOffset >= next && m.QueueOffset < r.NextBeginOffset, "offset %d of a pull at %d", m.QueueOffset, next)
				got.add(m)
			}
			next, end = r.NextBeginOffset, r.MaxOffset
		}
		r, err := c.PullFrom(context.Background(), q, next+1000, 7)
		check(err == nil && r.Status == primitive.PullOffsetIllegal && r.NextBeginOffset == next, "pull beyond the end %d: %v %v", next, r, err)
	}
	got.exactly(bodies, "by offset")
	waiting(c, p, topic)

	poll := func(c rocketmq.PullConsumer, into *seen, n int) {
		until(60, func() bool {
			r, err := c.Poll(context.Background(), 500*time.Millisecond)
			if err == nil {
				into.add(r.GetMsgList()...)
				c.ACK(context.Background(), r, consumer.ConsumeSuccess)
			}
			return len(into.all()) >= n
		}, "%d messages by polling", n)
	}
	group := e.name("poll")
	first, second := newSeen(), newSeen()
	one := puller(group)
	poll(one, first, messages+autoQueues)
	first.forget("late", autoQueues)
	first.exactly(bodies, "by polling")
	check(one.PersistOffset(context.Background(), topic) == nil, "the offsets are not stored")
	check(one.Shutdown() == nil, "shutdown")
	more := numbered("more", 20)
	sendAll(p, topic, more)
	poll(puller(group), second, len(more))
	second.exactly(more, "by polling after a restart")
	return fmt.Sprintf("messages=%d queues=%d", messages+len(more), len(queues)), nil
}
