package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// The queues of a topic made by a send: the Go client asks for 4, whatever its options say (on a cluster of one broker name).
const autoQueues = 4

// checkFailed is what a failed check panics with: the reason.
type checkFailed string

func check(ok bool, format string, args ...any) {
	if !ok {
		panic(checkFailed(fmt.Sprintf(format, args...)))
	}
}

// until waits for a condition, at most so many seconds.
func until(seconds int, condition func() bool, format string, args ...any) {
	for end := time.Now().Add(time.Duration(seconds) * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if condition() {
			return
		}
		check(time.Now().Before(end), "not within %d s: %s", seconds, fmt.Sprintf(format, args...))
	}
}

var (
	runID     = "go" + strconv.FormatInt(time.Now().UnixMilli(), 36)
	instances atomic.Int64
)

// env gives a scenario names that no other run uses, and clients that are shut down at its end.
type env struct {
	scenario string
	mu       sync.Mutex
	open     []func() error
}

func newEnv(scenario string) *env { return &env{scenario: scenario} }

func (e *env) name(purpose string) string {
	return "interop-" + e.scenario + "-" + purpose + "-" + runID
}

func namesrv() primitive.NamesrvAddr {
	s := os.Getenv("NAMESRV_ADDR")
	if s == "" {
		s = "127.0.0.1:9876"
	}
	return strings.Split(s, ";")
}

// Clients of one instance name in one process would share their client id.
func instance() string {
	return fmt.Sprintf("interop-go-%d-%d", os.Getpid(), instances.Add(1))
}

func (e *env) closing(f func() error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open = append(e.open, f)
}

func (e *env) close() {
	for _, f := range e.open {
		_ = f()
	}
}

// producer starts a producer.
func (e *env) producer() rocketmq.Producer {
	return e.producerWith(producer.NewRoundRobinQueueSelector())
}

func (e *env) producerWith(selector producer.QueueSelector) rocketmq.Producer {
	p, err := rocketmq.NewProducer(append(e.producerOptions(), producer.WithQueueSelector(selector))...)
	check(err == nil, "new producer: %v", err)
	check(p.Start() == nil, "the producer does not start")
	e.closing(p.Shutdown)
	return p
}

func (e *env) producerOptions() []producer.Option {
	return []producer.Option{
		producer.WithNameServer(namesrv()),
		producer.WithGroupName(e.name("producer")),
		producer.WithInstanceName(instance()),
		producer.WithSendMsgTimeout(10 * time.Second),
		producer.WithRetry(2),
	}
}

// topic makes a topic by a send to it: the Go client has no other way that needs no broker address.
func (e *env) topic(p rocketmq.Producer, purpose string) string {
	topic := e.name(purpose)
	m := primitive.NewMessage(topic, []byte("first"))
	m.WithTag("first")
	until(30, func() bool {
		r, err := p.SendSync(context.Background(), m)
		return err == nil && r.Status == primitive.SendOK
	}, "the first send, which makes the topic %s", topic)
	return topic
}

type handler func(context.Context, ...*primitive.MessageExt) (consumer.ConsumeResult, error)

// push starts a push consumer from the first offset.
func (e *env) push(group, topic, tags string, h handler) rocketmq.PushConsumer {
	return e.pushWith(group, topic, consumer.MessageSelector{Type: consumer.TAG, Expression: tags}, h)
}

// pushWith is push with any selector and options.
func (e *env) pushWith(group, topic string, selector consumer.MessageSelector, h handler, more ...consumer.Option) rocketmq.PushConsumer {
	c, err := rocketmq.NewPushConsumer(append([]consumer.Option{
		consumer.WithNameServer(namesrv()),
		consumer.WithGroupName(group),
		consumer.WithInstance(instance()),
		consumer.WithConsumerModel(consumer.Clustering),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	}, more...)...)
	check(err == nil, "new consumer: %v", err)
	err = c.Subscribe(topic, selector, h)
	check(err == nil, "subscribe: %v", err)
	err = c.Start()
	check(err == nil, "the consumer does not start: %v", err)
	e.closing(c.Shutdown)
	return c
}

// seen records deliveries by body.
type seen struct {
	mu     sync.Mutex
	byBody map[string][]*primitive.MessageExt
}

func newSeen() *seen { return &seen{byBody: map[string][]*primitive.MessageExt{}} }

func (s *seen) add(msgs ...*primitive.MessageExt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range msgs {
		if m.GetTags() != "first" {
			s.byBody[string(m.Body)] = append(s.byBody[string(m.Body)], m)
		}
	}
}

func (s *seen) handler(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	s.add(msgs...)
	return consumer.ConsumeSuccess, nil
}

func (s *seen) of(body string) []*primitive.MessageExt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*primitive.MessageExt(nil), s.byBody[body]...)
}

func (s *seen) distinct() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byBody)
}

// all gives every delivery, repeated ones too.
func (s *seen) all() []*primitive.MessageExt {
	s.mu.Lock()
	defer s.mu.Unlock()
	var l []*primitive.MessageExt
	for _, m := range s.byBody {
		l = append(l, m...)
	}
	return l
}
