package interop.mqadmin;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Output without what differs from run to run and from machine to machine: names of the run, addresses, times, ids. Each line
 * is kept once, sorted, because the tool prints hash maps; JSON is taken apart into its members first.
 */
final class Text {
    private record Mask(Pattern pattern, String by) {}

    private static final List<Mask> MASKS = List.of(
        mask("\\d{1,3}(\\.\\d{1,3}){3}@[\\w#.-]+", "<client>"),
        mask("127\\.0\\.0\\.1:\\d+", "<addr>"),
        mask("/?\\b\\d{1,3}(\\.\\d{1,3}){3}(:\\d+)?\\b", "<ip>"),
        // without IPv4 but with IPv6 addresses, ids are longer
        mask("\\b[0-9A-F]{32,60}(_\\d+)?\\b", "<id>"),
        mask("/tmp/[^\\s,\"]+", "<path>"),
        // the other replicas of the set
        mask(", ?[1-9]\\d*[:=]\"?<broker>\"?", ""),
        mask("(?i)(commit ?log ?offset[:=] ?)\\d+", "$1#"),
        mask("(?i)(spentTimeMills|storeSize|Store Size)([:=] ?)\\d+", "$1$2#"),
        mask("\\bConsume TPS: [\\d.]+", "Consume TPS: #"),
        mask("(\"(counter|stateVersion|timestamp)\":)\\d+", "$1#"),
        mask("\\$\\$Lambda.*", "<lambda>"),
        // RocketMQ stores this property, RaftMQ does not
        mask("WAIT=true, ", ""),
        mask("\\b\\d{4}-\\d\\d-\\d\\d[ #,T]\\d\\d:\\d\\d(:\\d\\d([,.:]\\d+)?)?", "<time>"),
        mask("\\b20\\d{15}\\b|\\b20\\d{12}\\b", "<time>"),
        mask("\\b1[6-9]\\d{11}\\b", "<ms>"),
        mask("\\b\\d{19}\\b", "<ns>"),
        mask("@[0-9a-f]{6,8}\\b", "@<hash>"),
        mask("crc32=\\d+|bodyCRC=\\d+", "crc"));
    /**
     * Stack traces; and what comes of RocketMQ counting a topic among its own groups (ConsumerManager.topicGroupTable is filled with
     * names of topics), which it never takes back; and the followers in haStatus, of which the record's broker has none.
     */
    private static final Pattern DROPPED = Pattern.compile("\\s*at [\\w.$/]+\\(.*|\\s*\\.\\.\\. \\d+ (?:more|common frames omitted).*"
        + "|MessageTrack \\[consumerGroup=<p>,.*|See https://rocketmq.*getTopicRouteInfoFromNameServer.*|<cluster> (\\S+) \\1|(\\S+) \\2 #.*|<broker> # OK #"
        // the tool's own groups, there from the first of its calls on, and what an earlier run left
        + "|.*\\b(?:TOOLS_CONSUMER|__MONITOR_CONSUMER|adm[0-9a-z]{8})\\b.*"
        + "|producer group \\(CLIENT_INNER_PRODUCER.*|Diff Total: \\d+");
    private static final Pattern PROPERTIES = Pattern.compile("(?<=[pP]roperties[:=] ?\\{)[^{}]*(?=\\})");
    private static final Pattern NUMBER = Pattern.compile("-?\\b\\d+(\\.\\d+)?(E-?\\d+)?");

    private Text() {}

    private static Mask mask(String regex, String by) {
        return new Mask(Pattern.compile(regex), by);
    }

    /**
     * @param names   what stands for itself on one side only (addresses, cluster, prefix) and the word for it
     * @param shape   numbers are masked, too
     */
    static List<String> normalised(String output, Map<String, String> names, boolean shape) {
        TreeSet<String> lines = new TreeSet<>();
        for (String line : apart(output).split("\\R")) {
            line = line.replace('\t', ' ').replace("\\n", " ").replaceAll(" {2,}", " ").strip().replaceAll(",$", "");
            for (var n : names.entrySet()) {
                line = line.replace(n.getKey(), n.getValue());
            }
            for (Mask m : MASKS) {
                line = m.pattern().matcher(line).replaceAll(m.by());
            }
            if (shape) {
                line = NUMBER.matcher(line).replaceAll("#").replaceAll("#([ ,]+#)+", "#");
            }
            // a hash map
            line = PROPERTIES.matcher(line).replaceAll(m -> Matcher.quoteReplacement(String.join(", ", new TreeSet<>(List.of(m.group().split(", "))))));
            if (!line.isEmpty() && !dropped(line)) {
                lines.add(line);
            }
        }
        return new ArrayList<>(lines);
    }

    /** Not compared; looked at again when records are compared, so that a rule can be added without new records. */
    static boolean dropped(String line) {
        return DROPPED.matcher(line).matches();
    }

    /** Text with a line break after each opening brace, closing brace and comma of JSON, so that members can be compared one by one. */
    private static String apart(String s) {
        StringBuilder out = new StringBuilder();
        // the tool prints these of a message after each other on one line
        for (String line : s.replace("MessageTrack [", "\nMessageTrack [").replace("]Topic:", "]\nTopic:").split("\\R")) {
            String t = line.strip();
            if ((t.startsWith("{") || t.startsWith("[{")) && t.length() > 2) {
                boolean quoted = false;
                for (int i = 0; i < t.length(); i++) {
                    char c = t.charAt(i);
                    quoted ^= c == '"' && (i == 0 || t.charAt(i - 1) != '\\');
                    boolean closes = !quoted && (c == '}' || c == ']');
                    out.append(closes ? "\n" : "").append(c).append(!quoted && (c == '{' || c == ',' || c == '[') ? "\n" : "");
                }
                out.append('\n');
            } else {
                out.append(line).append('\n');
            }
        }
        return out.toString();
    }
}
