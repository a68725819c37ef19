package interop.mqadmin;

import java.nio.file.Path;

/**
 * Every sub-command of RocketMQ's mqadmin, in one JVM, against two clusters, and what differs.
 *
 * <pre>
 * Mqadmin run STEPS RECORD                          the steps against $NAMESRV_ADDR; what each did goes to the file RECORD
 * Mqadmin compare OURS THEIRS REASONS TABLE         the table, one line a sub-command; exit code 1 when a verdict is not that of REASONS
 * Mqadmin probe CODES SERVED                        which request codes the servers know
 * </pre>
 */
public final class Mqadmin {
    private Mqadmin() {}

    public static void main(String[] args) {
        boolean ok = false;
        try {
            ok = run(args);
        } catch (Exception e) {
            e.printStackTrace();
        }
        System.out.flush();
        // Sub-commands, and clients of a run that failed, leave threads behind that are not daemons.
        Runtime.getRuntime().halt(ok ? 0 : 1);
    }

    private static boolean run(String[] args) throws Exception {
        if (args.length == 3 && args[0].equals("run")) {
            return Run.all(Path.of(args[1]), Path.of(args[2]));
        } else if (args.length == 5 && args[0].equals("compare")) {
            return Compare.all(Path.of(args[1]), Path.of(args[2]), Path.of(args[3]), Path.of(args[4]));
        } else if (args.length == 3 && args[0].equals("probe")) {
            return Probe.all(Path.of(args[1]), Path.of(args[2]));
        } else {
            System.err.println("usage: Mqadmin run STEPS RECORD | compare OURS THEIRS REASONS TABLE | probe CODES SERVED");
            System.exit(2);
            return false;
        }
    }
}
