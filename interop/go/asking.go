package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

type administrator interface {
	CreateTopic(ctx context.Context, opts ...admin.OptionCreate) error
	DeleteTopic(ctx context.Context, opts ...admin.OptionDelete) error
	GetAllSubscriptionGroup(ctx context.Context, brokerAddr string, timeoutMillis time.Duration) (*admin.SubscriptionGroupWrapper, error)
	FetchAllTopicList(ctx context.Context) (*admin.TopicList, error)
	FetchPublishMessageQueues(ctx context.Context, topic string) ([]*primitive.MessageQueue, error)
}

func (e *env) admin() administrator {
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver(namesrv())))
	check(err == nil, "new admin: %v", err)
	return a
}

func (e *env) queues(topic string) []*primitive.MessageQueue {
	l, err := e.admin().FetchPublishMessageQueues(context.Background(), topic)
	check(err == nil, "queues of %s: %v", topic, err)
	return l
}

// brokerOf reads the broker's address out of an offset id: the address and port that a message was stored at come first.
func brokerOf(r *primitive.SendResult) string {
	b, err := hex.DecodeString(r.OffsetMsgID)
	check(err == nil && len(b) == 16, "offset id %s", r.OffsetMsgID)
	port := int(b[4])<<24 | int(b[5])<<16 | int(b[6])<<8 | int(b[7])
	return net.IP(b[:4]).String() + ":" + strconv.Itoa(port)
}

// topics makes a topic, with a number of queues, and deletes it; a consumer's group is listed.
func topics(e *env) (string, error) {
	const queues = 6
	ctx := context.Background()
	p := e.producer()
	seed := e.topic(p, "seed")
	r, err := p.SendSync(ctx, primitive.NewMessage(seed, []byte("where")))
	check(err == nil, "send: %v", err)
	broker := brokerOf(r)
	a := e.admin()
	topic := e.name("created")
	listed := func() bool {
		l, err := a.FetchAllTopicList(ctx)
		check(err == nil, "list of topics: %v", err)
		return contains(l.TopicList, topic)
	}
	check(!listed(), "%s is there already", topic)
	err = a.CreateTopic(ctx, admin.WithTopicCreate(topic), admin.WithBrokerAddrCreate(broker), admin.WithReadQueueNums(queues), admin.WithWriteQueueNums(queues))
	check(err == nil, "create: %v", err)
	until(30, func() bool {
		l, err := a.FetchPublishMessageQueues(ctx, topic)
		return err == nil && len(l) == queues
	}, "%d queues", queues)
	check(listed(), "%s is not listed", topic)
	used := map[int]bool{}
	for i := 0; i < 4*queues; i++ {
		r, err := p.SendSync(ctx, primitive.NewMessage(topic, []byte(strconv.Itoa(i))))
		check(err == nil && r.Status == primitive.SendOK, "send: %v", err)
		used[r.MessageQueue.QueueId] = true
	}
	check(len(used) == queues, "%d queues were sent to", len(used))
	group := e.name("g")
	got := newSeen()
	c := e.push(group, topic, "*", got.handler)
	until(60, func() bool { return got.distinct() == 4*queues }, "%d messages", 4*queues)
	groups, err := a.GetAllSubscriptionGroup(ctx, broker, 5*time.Second)
	check(err == nil, "groups: %v", err)
	_, there := groups.SubscriptionGroupTable[group]
	check(there, "the group is not listed")
	check(c.Shutdown() == nil, "shutdown")
	check(a.DeleteTopic(ctx, admin.WithTopicDelete(topic), admin.WithBrokerAddrDelete(broker)) == nil, "delete")
	until(30, func() bool { return !listed() }, "the topic gone from the list")
	return fmt.Sprintf("queues=%d messages=%d", queues, 4*queues), nil
}

// requestreply: requests that are waited for and by callback, each gets its own reply; one that nobody replies to times out.
func requestreply(e *env) (string, error) {
	const waited, callbacks = 5, 30
	ctx := context.Background()
	replying := e.producer()
	topic, ignored := e.topic(replying, "t"), e.topic(replying, "ignored")
	var replies, failed atomic.Int64
	e.push(e.name("g"), topic, "ask", func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		for _, m := range msgs {
			reply, err := consumer.CreateReplyMessage(m, nil)
			if err == nil {
				// the client forgets the body it is given
				reply.Body = []byte("re: " + string(m.Body))
				_, err = replying.SendSync(ctx, reply)
			}
			if string(m.Body) == "first" {
				continue
			}
			if err != nil {
				failed.Add(1)
			}
			replies.Add(1)
		}
		return consumer.ConsumeSuccess, nil
	})
	asking := e.producer()
	ask := func(body string) *primitive.Message { return primitive.NewMessage(topic, []byte(body)).WithTag("ask") }
	// the broker knows who asks by its heartbeat, which this client sends beside its first request: that one may go unanswered
	until(60, func() bool {
		m, err := asking.Request(ctx, 3*time.Second, ask("first"))
		return err == nil && string(m.Body) == "re: first"
	}, "a first reply")
	for i := 0; i < waited; i++ {
		body := fmt.Sprintf("waited %d", i)
		m, err := asking.Request(ctx, 10*time.Second, ask(body))
		check(err == nil && string(m.Body) == "re: "+body, "reply to %s: %v %v", body, m, err)
	}
	var mu sync.Mutex
	got := map[string]string{}
	for i := 0; i < callbacks; i++ {
		body := fmt.Sprintf("callback %d", i)
		err := asking.RequestAsync(ctx, 10*time.Second, func(_ context.Context, m *primitive.Message, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				got[body] = err.Error()
			} else {
				got[body] = string(m.Body)
			}
		}, ask(body))
		check(err == nil, "request %s: %v", body, err)
	}
	until(30, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == callbacks
	}, "%d replies by callback", callbacks)
	mu.Lock()
	defer mu.Unlock()
	for body, reply := range got {
		check(reply == "re: "+body, "reply to %s: %s", body, reply)
	}
	// a reply comes before the answer to its sender
	until(10, func() bool { return replies.Load() >= waited+callbacks }, "%d replies sent", waited+callbacks)
	check(failed.Load() == 0 && replies.Load() == waited+callbacks, "replies=%d failed=%d", replies.Load(), failed.Load())
	begin := time.Now()
	_, err := asking.Request(ctx, 2*time.Second, primitive.NewMessage(ignored, []byte("nobody")))
	check(err != nil, "a request that nobody replies to returned")
	took := time.Since(begin)
	check(took > 1900*time.Millisecond && took < 15*time.Second, "a request that nobody replies to took %v", took)
	return fmt.Sprintf("replies=%d", waited+callbacks), nil
}

// trace: clients that are told to trace write what happened to each message to RMQ_SYS_TRACE_TOPIC.
func trace(e *env) (string, error) {
	const messages = 5
	ctx := context.Background()
	const traces = "RMQ_SYS_TRACE_TOPIC"
	plain := e.producer()
	topic := e.topic(plain, "t")
	// this client sends no trace to a topic that is not there, and brokers may make it only when something is sent to it
	until(30, func() bool {
		_, err := plain.SendSync(ctx, primitive.NewMessage(traces, []byte("first")).WithTag("first"))
		return err == nil
	}, "a first message to %s", traces)
	config := func() *primitive.TraceConfig {
		return &primitive.TraceConfig{Access: primitive.Local, Resolver: primitive.NewPassthroughResolver(namesrv())}
	}
	p, err := rocketmq.NewProducer(append(e.producerOptions(), producer.WithTrace(config()))...)
	check(err == nil && p.Start() == nil, "new producer: %v", err)
	e.closing(p.Shutdown)
	got := newSeen()
	group := e.name("g")
	e.pushWith(group, topic, consumer.MessageSelector{Type: consumer.TAG, Expression: "traced"}, got.handler, consumer.WithTrace(config()))
	var ids []string
	for i := 0; i < messages; i++ {
		r, err := p.SendSync(ctx, primitive.NewMessage(topic, []byte(fmt.Sprintf("traced %d", i))).WithTag("traced").WithKeys([]string{fmt.Sprintf("key%d", i)}))
		check(err == nil && r.Status == primitive.SendOK, "send: %v", err)
		ids = append(ids, r.MsgID)
	}
	until(60, func() bool { return got.distinct() >= messages }, "%d messages", messages)
	// a record is TYPE, a separator, fields; a message holds many
	var mu sync.Mutex
	traced := map[string]bool{}
	e.push(e.name("reader"), traces, "*", func(_ context.Context, msgs ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range msgs {
			for _, record := range strings.Split(string(m.Body), "\x02") {
				for _, id := range ids {
					if strings.Contains(record, id) {
						traced[strings.Split(record, "\x01")[0]+" "+id] = true
					}
				}
			}
		}
		return consumer.ConsumeSuccess, nil
	})
	until(60, func() bool {
		mu.Lock()
		defer mu.Unlock()
		for _, id := range ids {
			if !traced["Pub "+id] || !traced["SubBefore "+id] {
				return false
			}
		}
		return true
	}, "records of %d messages", messages)
	return fmt.Sprintf("messages=%d", messages), nil
}
