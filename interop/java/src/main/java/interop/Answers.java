package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;

/** Collects what the cluster answered in each case and compares it with what Apache RocketMQ answers. */
final class Answers {
    private final List<String> wrong = new ArrayList<>();
    private final StringBuilder log = new StringBuilder();
    private int count;

    /**
     * One case; {@code want} is the exception's simple name and its code, for example "MQBrokerException 13", or "none".
     * Where RocketMQ's own answer is an accident (an internal exception in its remark), a better one is allowed behind a "|".
     */
    void of(String what, String want, Callable<?> action) {
        String got;
        String detail = "";
        try {
            detail = String.valueOf(action.call());
            got = "none";
        } catch (MQBrokerException e) {
            got = "MQBrokerException " + e.getResponseCode();
            detail = e.getErrorMessage();
        } catch (MQClientException e) {
            got = "MQClientException " + e.getResponseCode();
            detail = e.getErrorMessage() + (e.getCause() == null ? "" : " <- " + e.getCause().getMessage());
        } catch (Exception e) {
            got = e.getClass().getSimpleName();
            detail = e.getMessage();
        }
        is(what, want, got, detail);
    }

    void is(String what, String want, String got, String detail) {
        count++;
        log.append(String.format("  %-34s %s%s%n", what, got, detail == null ? "" : ": " + detail.substring(0, Math.min(500, detail.length())).replace('\n', ' ')));
        if (!Arrays.asList(want.split("\\|")).contains(got)) {
            wrong.add(what + ": got <" + got + ">, want <" + want + ">");
        }
    }

    /** Prints the answers when $INTEROP_ANSWERS is set, fails when any was not as expected. */
    String done() {
        if (System.getenv("INTEROP_ANSWERS") != null || !wrong.isEmpty()) {
            System.out.print(log);
        }
        Check.that(wrong.isEmpty(), "%s", String.join("; ", wrong));
        return "cases=" + count;
    }
}
