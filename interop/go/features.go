package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// delay sends with delay levels and with times of their own: once, not early, not late, topic and properties as they were.
func delay(e *env) (string, error) {
	const late = 6 * time.Second
	p := e.producer()
	topic := e.topic(p, "t")
	var mu sync.Mutex
	at := map[string]time.Time{}
	got := newSeen()
	e.push(e.name("g"), topic, "delayed", func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mu.Lock()
		for _, m := range msgs {
			at[string(m.Body)] = time.Now()
		}
		mu.Unlock()
		got.add(msgs...)
		return consumer.ConsumeSuccess, nil
	})
	type want struct {
		sent time.Time
		wait time.Duration
		id   string
	}
	wants := map[string]want{}
	send := func(body string, wait time.Duration, m *primitive.Message) {
		m.WithProperty("mine", body)
		sent := time.Now()
		r, err := p.SendSync(context.Background(), m.WithTag("delayed"))
		check(err == nil && r.Status == primitive.SendOK, "send of %s: %v %v", body, r, err)
		wants[body] = want{sent, wait, r.MsgID}
	}
	for i := 0; i < 5; i++ {
		for level, wait := range map[int]time.Duration{0: 0, 1: time.Second, 2: 5 * time.Second} {
			body := fmt.Sprintf("level %d %d", level, i)
			send(body, wait, primitive.NewMessage(topic, []byte(body)).WithDelayTimeLevel(level))
		}
		for name, wait := range map[string]int{"TIMER_DELAY_MS": 1500, "TIMER_DELAY_SEC": 3} {
			body := fmt.Sprintf("%s %d", name, i)
			m := primitive.NewMessage(topic, []byte(body))
			m.WithProperty(name, strconv.Itoa(wait))
			unit := map[bool]time.Duration{true: time.Second, false: time.Millisecond}[name == "TIMER_DELAY_SEC"]
			// RocketMQ's own timers may be up to a second early
			send(body, time.Duration(wait)*unit-time.Second, m)
		}
	}
	until(40, func() bool { return got.distinct() >= len(wants) }, "%d delayed messages", len(wants))
	time.Sleep(time.Second)
	mu.Lock()
	defer mu.Unlock()
	var worst time.Duration
	for body, w := range wants {
		l := got.of(body)
		check(len(l) == 1, "<%s> came %d times", body, len(l))
		took := at[body].Sub(w.sent)
		check(took >= w.wait-100*time.Millisecond && took < w.wait+late+time.Second, "<%s> came after %v", body, took)
		if took-w.wait > worst {
			worst = took - w.wait
		}
		m := l[0]
		check(m.Topic == topic && m.MsgId == w.id && m.GetProperty("mine") == body, "<%s> came as %v", body, m)
	}
	return fmt.Sprintf("messages=%d latest_ms=%d", len(wants), worst.Milliseconds()), nil
}

// decider ends transactions as their bodies say: at once, or when it is asked.
type decider struct {
	mu    sync.Mutex
	asked map[string]int
}

func (d *decider) ExecuteLocalTransaction(m *primitive.Message) primitive.LocalTransactionState {
	switch strings.Fields(string(m.Body))[0] {
	case "commit":
		return primitive.CommitMessageState
	case "rollback":
		return primitive.RollbackMessageState
	}
	return primitive.UnknowState
}

func (d *decider) CheckLocalTransaction(m *primitive.MessageExt) primitive.LocalTransactionState {
	d.mu.Lock()
	defer d.mu.Unlock()
	body := string(m.Body)
	d.asked[body]++
	switch {
	case strings.HasPrefix(body, "asked-rollback"):
		return primitive.RollbackMessageState
	case strings.HasPrefix(body, "asked-twice") && d.asked[body] < 2:
		return primitive.UnknowState
	}
	return primitive.CommitMessageState
}

// transactions are committed, rolled back, or left open until the broker asks.
func transactions(e *env) (string, error) {
	const each = 8
	topic := e.topic(e.producer(), "t")
	got := newSeen()
	e.push(e.name("g"), topic, "tag", got.handler)
	d := &decider{asked: map[string]int{}}
	p, err := rocketmq.NewTransactionProducer(d, append(e.producerOptions(), producer.WithGroupName(e.name("transactions")))...)
	check(err == nil, "new producer: %v", err)
	check(p.Start() == nil, "the producer does not start")
	e.closing(p.Shutdown)
	kinds := []string{"commit", "rollback", "asked-commit", "asked-rollback", "asked-twice"}
	for i := 0; i < each; i++ {
		for _, kind := range kinds {
			m := primitive.NewMessage(topic, []byte(fmt.Sprintf("%s %d", kind, i))).WithTag("tag")
			r, err := p.SendMessageInTransaction(context.Background(), m)
			check(err == nil && r.Status == primitive.SendOK, "half message: %v %v", r, err)
		}
	}
	until(90, func() bool { return got.distinct() >= 3*each }, "%d committed messages", 3*each)
	until(60, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.asked) >= 3*each
	}, "all %d open transactions are asked about", 3*each)
	time.Sleep(5 * time.Second)
	// RocketMQ may ask once more while an answer is under way, and delivers twice then
	check(got.distinct() == 3*each, "%d committed messages came, want %d", got.distinct(), 3*each)
	all := got.all()
	for _, m := range all {
		check(!strings.Contains(string(m.Body), "rollback"), "<%s> came", m.Body)
		check(m.Topic == topic && m.GetTags() == "tag", "<%s> came as %v", m.Body, m)
	}
	return fmt.Sprintf("messages=%d committed=%d deliveries=%d asked=%d", len(kinds)*each, 3*each, len(all), len(d.asked)), nil
}

// orderly sends by sharding key and consumes in order: the order of each key holds, also over a failed message.
func orderly(e *env) (string, error) {
	const keys, each = 12, 40
	p := e.producerWith(producer.NewHashQueueSelector())
	topic := e.topic(p, "t")
	queueOf := map[string]int{}
	for i := 0; i < each; i++ {
		for k := 0; k < keys; k++ {
			key := fmt.Sprintf("key-%d", k)
			m := primitive.NewMessage(topic, []byte(fmt.Sprintf("%s %d", key, i))).WithShardingKey(key)
			r, err := p.SendSync(context.Background(), m)
			check(err == nil, "send: %v", err)
			if q, known := queueOf[key]; known {
				check(q == r.MessageQueue.QueueId, "%s went to queues %d and %d", key, q, r.MessageQueue.QueueId)
			}
			queueOf[key] = r.MessageQueue.QueueId
		}
	}
	var mu sync.Mutex
	steps := map[string][]int{}
	count, failed := 0, 0
	e.pushWith(e.name("g"), topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "*"},
		func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			mu.Lock()
			defer mu.Unlock()
			for _, m := range msgs {
				words := strings.Fields(string(m.Body))
				if len(words) != 2 {
					continue
				}
				step, _ := strconv.Atoi(words[1])
				if words[0] == "key-3" && step == each/2 && failed == 0 {
					failed++
					return consumer.SuspendCurrentQueueAMoment, nil
				}
				steps[words[0]] = append(steps[words[0]], step)
				count++
			}
			return consumer.ConsumeSuccess, nil
		}, consumer.WithConsumerOrder(true), consumer.WithConsumeMessageBatchMaxSize(1), consumer.WithSuspendCurrentQueueTimeMillis(200*time.Millisecond))
	until(60, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return count >= keys*each
	}, "all %d messages", keys*each)
	time.Sleep(500 * time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	check(failed == 1, "no message failed")
	for key, l := range steps {
		check(len(l) == each, "%s: %d deliveries, want %d", key, len(l), each)
		for i, step := range l {
			check(i == step, "%s: step %d came as number %d", key, step, i)
		}
	}
	return fmt.Sprintf("messages=%d keys=%d", keys*each, keys), nil
}

// sql subscribes groups with SQL92 expressions.
func sql(e *env) (string, error) {
	const messages = 60
	p := e.producer()
	topic := e.topic(p, "t")
	want := map[string]int{"n BETWEEN 0 AND 9": 10, "n >= 50 OR color = 'blue'": 35, "color IS NULL AND n IS NOT NULL": 0, "n > 9 AND color IN ('green')": 25}
	groups := map[string]*seen{}
	for expression := range want {
		groups[expression] = newSeen()
		e.pushWith(e.name(fmt.Sprintf("g%d", len(groups))), topic, consumer.MessageSelector{Type: consumer.SQL92, Expression: expression}, groups[expression].handler)
	}
	for i := 0; i < messages; i++ {
		m := primitive.NewMessage(topic, []byte(fmt.Sprintf("sql %d", i)))
		m.WithProperty("n", strconv.Itoa(i))
		m.WithProperty("color", []string{"blue", "green"}[i%2])
		_, err := p.SendSync(context.Background(), m)
		check(err == nil, "send: %v", err)
	}
	for expression, n := range want {
		until(40, func() bool { return groups[expression].distinct() >= n }, "<%s> gets %d", expression, n)
	}
	time.Sleep(500 * time.Millisecond)
	for expression, n := range want {
		check(len(groups[expression].all()) == n, "<%s> got %d, want %d", expression, len(groups[expression].all()), n)
	}
	return fmt.Sprintf("expressions=%d messages=%d", len(want), messages), nil
}
