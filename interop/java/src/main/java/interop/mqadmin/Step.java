package interop.mqadmin;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * One line of the steps file.
 *
 * <pre>
 * updateTopic -c {cluster} -t {p}-new -r 8         a sub-command; {…} are variables of the fixtures
 *     topicRoute -t {p}-new                        indented: how its effect shows; belongs to the sub-command above
 * [shape] clusterList                              numbers are not compared, only which there are
 * [endless=5] clusterRT -c {cluster}               has no end: interrupted after 5 s
 * [wait=2] …                                       2 s later
 * [any] …                                          what is printed is not compared, only how it ends
 * </pre>
 *
 * @param command  the sub-command that the step is counted for
 * @param words    what is run: a sub-command and its arguments, or {@code @…}, something the fixtures do
 */
record Step(String command, List<String> words, boolean shape, boolean any, int endless, int pause) {
    String name() {
        return words.get(0);
    }

    /** The words with variables in place. */
    List<String> filled(Map<String, String> variables) {
        List<String> l = new ArrayList<>();
        for (String w : words) {
            for (var v : variables.entrySet()) {
                w = w.replace("{" + v.getKey() + "}", v.getValue());
            }
            l.add(w);
        }
        return l;
    }

    static List<Step> read(Path file) throws IOException {
        List<Step> steps = new ArrayList<>();
        String command = null;
        for (String line : Files.readAllLines(file)) {
            if (line.isBlank() || line.startsWith("#")) {
                continue;
            }
            boolean effect = line.startsWith(" ");
            String rest = line.trim();
            boolean shape = false;
            boolean any = false;
            int endless = 0;
            int pause = 0;
            if (rest.startsWith("[")) {
                int end = rest.indexOf(']');
                for (String o : rest.substring(1, end).split(",")) {
                    String value = o.substring(o.indexOf('=') + 1);
                    switch (o.replaceAll("=.*", "")) {
                        case "shape" -> shape = true;
                        case "any" -> any = true;
                        case "endless" -> endless = Integer.parseInt(value);
                        case "wait" -> pause = Integer.parseInt(value);
                        default -> throw new IOException("unknown option " + o + " in: " + line);
                    }
                }
                rest = rest.substring(end + 1).trim();
            }
            List<String> words = words(rest);
            if (!effect) {
                command = words.get(0);
            }
            if (command == null) {
                throw new IOException("an effect of nothing: " + line);
            }
            steps.add(new Step(command, words, shape, any, endless, pause));
        }
        return steps;
    }

    /** Words between blanks; a word in double quotes may have blanks. */
    private static List<String> words(String line) {
        List<String> l = new ArrayList<>();
        StringBuilder word = new StringBuilder();
        boolean quoted = false;
        boolean some = false;
        for (char c : line.toCharArray()) {
            if (c == '"') {
                quoted = !quoted;
                some = true;
            } else if (c == ' ' && !quoted) {
                if (some) {
                    l.add(word.toString());
                    word.setLength(0);
                    some = false;
                }
            } else {
                word.append(c);
                some = true;
            }
        }
        if (some) {
            l.add(word.toString());
        }
        return l;
    }
}
