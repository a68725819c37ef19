package interop.mqadmin;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.rocketmq.common.MQVersion;

/**
 * Two records side by side. A sub-command is {@code same} when each of its steps ends alike and prints the same, {@code refused}
 * when ours answers one of its requests with "not supported" where theirs does not, {@code refused by both} when nothing differs
 * but the code of an exception, and {@code differs} otherwise.
 */
final class Compare {
    /** REQUEST_CODE_NOT_SUPPORTED. */
    private static final String NOT_SUPPORTED = "3";

    private Compare() {}

    static boolean all(Path oursFile, Path theirsFile, Path reasonsFile, Path table) throws Exception {
        Map<String, List<Result>> ours = byCommand(Result.read(oursFile));
        Map<String, List<Result>> theirs = byCommand(Result.read(theirsFile));
        Map<String, String[]> reasons = new LinkedHashMap<>();
        for (String row : Files.readAllLines(reasonsFile)) {
            String[] f = row.split("\t", -1);
            if (!row.isBlank() && !row.startsWith("#")) {
                reasons.put(f[0], f);
            }
        }
        // reasons of one tool alone: updateTopic@4
        String tool = MQVersion.getVersionDesc(MQVersion.CURRENT_VERSION).substring(1, 2);
        List<String> rows = new ArrayList<>();
        boolean ok = true;
        Map<String, Integer> count = new TreeMap<>();
        for (String command : theirs.keySet()) {
            List<String> how = new ArrayList<>();
            String verdict = verdict(ours.getOrDefault(command, List.of()), theirs.get(command), how);
            if (verdict.equals("absent")) {
                continue;
            }
            count.merge(verdict, 1, Integer::sum);
            String[] reason = reasons.getOrDefault(command + "@" + tool, reasons.get(command));
            String expected = reason == null ? "same" : reason[1];
            rows.add(String.join("\t", command, verdict, codes(theirs.get(command)), reason == null ? "" : reason[2]));
            if (!verdict.equals(expected)) {
                ok = false;
                System.out.println("FAIL " + command + ": " + verdict + ", expected " + expected);
            } else if (!verdict.equals("same")) {
                System.out.println("     " + command + ": " + verdict);
            }
            if (!verdict.equals("same")) {
                how.forEach(h -> System.out.println("       " + h));
            }
        }
        Files.write(table, rows);
        System.out.println(count);
        return ok;
    }

    private static Map<String, List<Result>> byCommand(List<Result> results) {
        Map<String, List<Result>> m = new LinkedHashMap<>();
        results.forEach(r -> m.computeIfAbsent(r.command(), c -> new ArrayList<>()).add(r));
        return m;
    }

    private static String verdict(List<Result> ours, List<Result> theirs, List<String> how) {
        if (theirs.stream().filter(Compare::own).allMatch(r -> r.end().equals("absent"))) {
            return "absent";
        }
        boolean same = true;
        boolean refused = false;
        boolean both = true;
        for (int i = 0; i < theirs.size(); i++) {
            if (i >= ours.size() || !ours.get(i).line().equals(theirs.get(i).line())) {
                how.add("the records are of different steps");
                return "differs";
            }
            Result o = ours.get(i);
            Result t = theirs.get(i);
            List<String> only = new ArrayList<>();
            if (!o.end().equals(t.end())) {
                only.add("ends: ours " + o.end() + ", theirs " + t.end());
            }
            t.output().stream().filter(l -> counts(l) && !o.output().contains(l)).forEach(l -> only.add("- " + l));
            o.output().stream().filter(l -> counts(l) && !t.output().contains(l)).forEach(l -> only.add("+ " + l));
            if (!only.isEmpty()) {
                same = false;
                both &= !o.end().equals("ok") && !t.end().equals("ok");
                how.add(o.line() + "   (codes: ours " + o.codes() + ", theirs " + t.codes() + ")");
                only.forEach(l -> how.add("  " + l));
            }
            refused |= refuses(o) && !refuses(t);
        }
        return same ? "same" : both ? "refused by both" : refused ? "refused" : "differs";
    }

    /** What startMonitoring leaves behind depends on which tool ran before. */
    private static boolean counts(String line) {
        return !line.contains("OFFSET_MOVED_EVENT");
    }

    /** A call of the sub-command, not of a query that shows its effect. */
    private static boolean own(Result r) {
        return r.line().equals(r.command()) || r.line().startsWith(r.command() + " ");
    }

    private static boolean refuses(Result r) {
        return answers(r.codes()).values().stream().anyMatch(l -> List.of(l.split(",")).contains(NOT_SUPPORTED));
    }

    private static Map<String, String> answers(String codes) {
        Map<String, String> m = new LinkedHashMap<>();
        Matcher each = Pattern.compile("(\\d+):([\\d,]*)").matcher(codes);
        while (each.find()) {
            m.put(each.group(1), each.group(2));
        }
        return m;
    }

    /** The request codes of the sub-command itself, without those of the queries that show its effect. */
    private static String codes(List<Result> results) {
        TreeMap<Integer, Boolean> all = new TreeMap<>();
        for (Result r : results) {
            if (own(r)) {
                answers(r.codes()).keySet().forEach(c -> all.put(Integer.valueOf(c), true));
            }
        }
        return String.join(" ", all.keySet().stream().map(String::valueOf).toList());
    }
}
