package interop;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Tests of a RocketMQ compatible cluster with the unmodified Java client.
 *
 * <pre>
 * Interop list                     the scenarios
 * Interop all | SCENARIO...        run them, several at a time (-Dinterop.parallel, default 5)
 * Interop failover SECONDS THREADS RATE POLL_MS TOPIC GROUP
 * Interop failover-features SECONDS RATE POLL_MS PREFIX
 * Interop steady NAMESRV THREADS RATE POLL_MS TOPIC RUN        a load that is watched from outside, see Steady
 * </pre>
 *
 * The name server is $NAMESRV_ADDR. Each scenario prints one line, PASS name key=value... or FAIL name reason;
 * the exit code is 1 when any failed.
 */
public final class Interop {
    private static final Map<String, Scenario> SCENARIOS = new LinkedHashMap<>();

    static {
        // the slow ones first, so that they overlap with all the others
        SCENARIOS.put("retry", new Retry());
        SCENARIOS.put("resets", new Resets());
        SCENARIOS.put("deadletters", new DeadLetters());
        SCENARIOS.put("consumeradmin", new ConsumerAdmin());
        SCENARIOS.put("transactions", new Transactions());
        SCENARIOS.put("exporter", new Exporter());
        SCENARIOS.put("dashboard", new Dashboard());
        SCENARIOS.put("delay", new Delay());
        SCENARIOS.put("timers", new Timers());
        SCENARIOS.put("recall", new Recall());
        SCENARIOS.put("ordered", new Ordered());
        SCENARIOS.put("clustering", new Clustering());
        SCENARIOS.put("orderly", new Orderly());
        SCENARIOS.put("sends", new Sends());
        SCENARIOS.put("restart", new Restart());
        SCENARIOS.put("fromwhere", new FromWhere());
        SCENARIOS.put("broadcasting", new Broadcasting());
        SCENARIOS.put("tags", new Tags());
        SCENARIOS.put("sql", new Sql());
        SCENARIOS.put("pull", new Pull());
        SCENARIOS.put("litepull", new LitePull());
        SCENARIOS.put("query", new Query());
        SCENARIOS.put("trace", new Trace());
        SCENARIOS.put("requestreply", new RequestReply());
        SCENARIOS.put("topics", new Topics());
        SCENARIOS.put("settings", new Settings());
        SCENARIOS.put("badinput", new BadInput());
        SCENARIOS.put("badraw", new BadRaw());
    }

    private Interop() {}

    public static void main(String[] args) throws Exception {
        if (args.length == 0) {
            System.err.println("usage: Interop list | all | SCENARIO... | failover SECONDS THREADS RATE POLL_MS TOPIC GROUP | failover-features SECONDS RATE POLL_MS PREFIX | steady NAMESRV THREADS RATE POLL_MS TOPIC RUN");
            System.exit(2);
        }
        if (args[0].equals("list")) {
            SCENARIOS.keySet().forEach(System.out::println);
            return;
        }
        if (args[0].equals("steady")) {
            Steady.main(Arrays.copyOfRange(args, 1, args.length));
            return;
        }
        boolean ok;
        if (args[0].equals("failover")) {
            Failover f = Failover.parse(Arrays.copyOfRange(args, 1, args.length));
            ok = run("failover", f);
        } else if (args[0].equals("failover-features")) {
            ok = run("failover", FailoverFeatures.parse(Arrays.copyOfRange(args, 1, args.length)));
        } else {
            ok = runAll(args[0].equals("all") ? new ArrayList<>(SCENARIOS.keySet()) : Arrays.asList(args));
        }
        System.out.flush();
        // the client leaves threads behind that are not daemons
        Runtime.getRuntime().halt(ok ? 0 : 1);
    }

    private static boolean runAll(List<String> names) throws Exception {
        for (String n : names) {
            if (!SCENARIOS.containsKey(n)) {
                System.err.println("no scenario " + n + "; there are " + SCENARIOS.keySet());
                System.exit(2);
            }
        }
        ExecutorService pool = Executors.newFixedThreadPool(Integer.getInteger("interop.parallel", 5));
        List<Future<Boolean>> runs = new ArrayList<>();
        for (String n : SCENARIOS.keySet()) {
            if (names.contains(n) && !SCENARIOS.get(n).alone()) {
                runs.add(pool.submit(() -> run(n, SCENARIOS.get(n))));
            }
        }
        boolean ok = true;
        for (Future<Boolean> r : runs) {
            ok &= r.get();
        }
        for (String n : SCENARIOS.keySet()) {
            if (names.contains(n) && SCENARIOS.get(n).alone()) {
                ok &= run(n, SCENARIOS.get(n));
            }
        }
        pool.shutdown();
        return ok;
    }

    private static boolean run(String name, Scenario s) {
        long t0 = System.nanoTime();
        String line;
        boolean ok = false;
        Env env = new Env(name);
        try {
            line = "PASS " + name + " client=" + Line.version() + " " + s.run(env);
            ok = true;
        } catch (Throwable t) {
            line = "FAIL " + name + " client=" + Line.version() + " " + (t instanceof Check.Failed ? t.getMessage() : t.toString()).replace('\n', ' ');
            if (!(t instanceof Check.Failed)) {
                t.printStackTrace();
            }
        }
        System.out.printf("%s seconds=%.1f%n", line, (System.nanoTime() - t0) / 1e9);
        env.close();
        return ok;
    }
}
