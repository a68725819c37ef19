package interop.mqadmin;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.commons.cli.CommandLine;
import org.apache.commons.cli.Options;
import org.apache.commons.cli.ParseException;
import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.srvutil.ServerUtil;
import org.apache.rocketmq.tools.command.SubCommand;

/** Runs one sub-command after the other as MQAdminStartup does, with what it prints and what it asks the servers kept. */
final class Steps {
    /** Longer than any timeout of a request in the tool; a step that takes more hangs. */
    private static final long LIMIT_MS = 60_000;

    /** What one did. {@code printed} is stdout and stderr. */
    record Ran(String end, String codes, String printed) {}

    Steps(String namesrv) {
        System.setProperty("rocketmq.namesrv.addr", namesrv);
    }

    Ran run(List<String> words) throws Exception {
        return run(words, 0);
    }

    /** @param endless  seconds after which a sub-command without an end is interrupted; 0: it must end by itself */
    Ran run(List<String> words, int endless) throws Exception {
        SubCommand command = Commands.find(words.get(0));
        if (command == null) {
            return new Ran("absent", "", "");
        }
        Options options = command.buildCommandlineOptions(ServerUtil.buildCommandlineOptions(new Options()));
        CommandLine line;
        try {
            line = Commands.parser().parse(options, words.subList(1, words.size()).toArray(String[]::new));
        } catch (ParseException e) {
            return new Ran("usage", "", e.getMessage());
        }
        Asked asked = new Asked();
        String[] end = {null};
        PrintStream out = System.out;
        PrintStream err = System.err;
        ByteArrayOutputStream printed = new ByteArrayOutputStream();
        Thread t = new Thread(() -> {
            try {
                command.execute(line, options, asked);
                end[0] = "ok";
            } catch (Throwable e) {
                end[0] = reason(e);
            }
        }, "step");
        t.setDaemon(true);
        try (PrintStream capture = new PrintStream(printed, true, StandardCharsets.UTF_8)) {
            System.setOut(capture);
            System.setErr(capture);
            t.start();
            t.join(endless > 0 ? endless * 1_000L : LIMIT_MS);
            if (t.isAlive()) {
                end[0] = endless > 0 ? "endless" : "hangs";
                t.interrupt();
            }
            capture.flush();
            return new Ran(end[0], asked.codes(), printed.toString(StandardCharsets.UTF_8));
        } finally {
            System.setOut(out);
            System.setErr(err);
        }
    }

    /** The exception that says most: the innermost one with a response code, else the innermost one. */
    private static String reason(Throwable e) {
        String coded = null;
        Throwable last = e;
        for (Throwable t = e; t != null; t = t.getCause()) {
            Integer code = code(t);
            if (code != null) {
                coded = t.getClass().getSimpleName() + " " + code;
            }
            last = t;
        }
        return coded != null ? coded : last.getClass().getSimpleName() + ": " + String.valueOf(last.getMessage()).lines().findFirst().orElse("");
    }

    private static Integer code(Throwable t) {
        try {
            int code = (Integer) t.getClass().getMethod("getResponseCode").invoke(t);
            return code == -1 ? null : code;
        } catch (ReflectiveOperationException e) {
            return null;
        }
    }

    /** Which request codes a sub-command sent and what they were answered. */
    private static final class Asked implements RPCHook {
        private final TreeMap<Integer, TreeSet<Integer>> codes = new TreeMap<>();

        @Override
        public synchronized void doBeforeRequest(String address, RemotingCommand request) {
            codes.computeIfAbsent(request.getCode(), c -> new TreeSet<>());
        }

        @Override
        public synchronized void doAfterResponse(String address, RemotingCommand request, RemotingCommand response) {
            if (response != null) {
                codes.computeIfAbsent(request.getCode(), c -> new TreeSet<>()).add(response.getCode());
            }
        }

        synchronized String codes() {
            StringBuilder s = new StringBuilder();
            codes.forEach((code, answers) -> s.append(s.isEmpty() ? "" : " ").append(code).append(':')
                .append(String.join(",", answers.stream().map(String::valueOf).toList())));
            return s.toString();
        }
    }
}
