package interop.mqadmin;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * What a step did, as it stands in a line of a record file.
 *
 * @param command  the sub-command it is counted for
 * @param line     the step as written, variables not filled in
 * @param end      {@code ok}, {@code endless}, {@code absent} (the tool has no such sub-command), {@code hangs}, or exception and response code
 * @param codes    request codes and what each was answered, for example {@code 17:0 105:0,17}
 * @param output   the lines printed and written to files, normalised, sorted, each once
 */
record Result(String command, String line, String end, String codes, List<String> output) {
    String row() {
        return String.join("\t", command, line, end, codes, String.join("\\n", output));
    }

    static List<Result> read(Path file) throws IOException {
        List<Result> l = new ArrayList<>();
        for (String row : Files.readAllLines(file)) {
            String[] f = row.split("\t", -1);
            List<String> output = Arrays.stream(f[4].split("\\\\n")).filter(line -> !line.isEmpty() && !Text.dropped(line)).toList();
            l.add(new Result(f[0], f[1], f[2], f[3], output));
        }
        return l;
    }
}
