package interop;

import java.nio.ByteBuffer;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;

/**
 * A steady load with a line for each send as the application sees it, until the process is ended; whoever breaks the cluster meanwhile
 * reads them. The producer has the client's own defaults but for the route poll. A message that failed is sent again with its number.
 *
 * <pre>
 * A START END BROKER NUMBER    acknowledged with SEND_OK; times in microseconds since 1970
 * F START END NUMBER WHY       anything else
 * </pre>
 */
final class Steady {
    private final DefaultMQProducer producer = new DefaultMQProducer("steady-producer");
    private final AtomicLong next = new AtomicLong();
    private final String topic;
    private final long run;

    private Steady(String topic, long run) {
        this.topic = topic;
        this.run = run;
    }

    /** NAMESRV THREADS RATE POLL_MS TOPIC RUN; the rate is that of all threads together, per second; RUN is the first word of every body. */
    static void main(String[] a) throws Exception {
        if (a.length != 6) {
            System.err.println("usage: steady NAMESRV THREADS RATE POLL_MS TOPIC RUN");
            System.exit(2);
        }
        Steady steady = new Steady(a[4], Long.parseUnsignedLong(a[5]));
        steady.producer.setNamesrvAddr(a[0]);
        steady.producer.setPollNameServerInterval(Integer.parseInt(a[3]));
        steady.producer.start();
        int threads = Integer.parseInt(a[1]);
        long pauseNs = (long) (1e9 * threads / Double.parseDouble(a[2]));
        for (int i = 0; i < threads; i++) {
            new Thread(() -> steady.produce(pauseNs), "produce-" + i).start();
        }
        Thread.currentThread().join();
    }

    private void produce(long pauseNs) {
        long due = System.nanoTime();
        while (true) {
            LockSupport.parkNanos(due - System.nanoTime());
            // what an outage held up is not sent in a burst
            due = Math.max(due, System.nanoTime() - 100_000_000L) + pauseNs;
            long number = next.getAndIncrement();
            while (!attempt(number)) {
                LockSupport.parkNanos(ThreadLocalRandom.current().nextLong(10_000_000L, 100_000_000L));
            }
        }
    }

    private boolean attempt(long number) {
        byte[] body = ByteBuffer.allocate(16).putLong(run).putLong(number).array();
        long start = micros();
        String why;
        try {
            SendResult r = producer.send(new Message(topic, body));
            if (r.getSendStatus() == SendStatus.SEND_OK) {
                System.out.println("A " + start + " " + micros() + " " + r.getMessageQueue().getBrokerName() + " " + number);
                return true;
            }
            why = r.getSendStatus().toString();
        } catch (Exception e) {
            why = e.getClass().getSimpleName() + ": " + String.valueOf(e.getMessage()).lines().findFirst().orElse("");
        }
        System.out.println("F " + start + " " + micros() + " " + number + " " + why);
        return false;
    }

    private static long micros() {
        return ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now());
    }
}
