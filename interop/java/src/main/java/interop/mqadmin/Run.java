package interop.mqadmin;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/** Runs the steps against one cluster and writes the record. */
final class Run {
    private Run() {}

    static boolean all(Path stepsFile, Path record) throws Exception {
        List<Step> steps = Step.read(stepsFile);
        Set<String> named = new HashSet<>();
        steps.forEach(s -> named.add(s.command().toLowerCase()));
        List<String> forgotten = new ArrayList<>();
        Commands.fresh().forEach(c -> {
            if (!named.contains(c.commandName().toLowerCase())) {
                forgotten.add(c.commandName());
            }
        });
        if (!forgotten.isEmpty()) {
            System.err.println("no step runs " + forgotten);
            return false;
        }
        String namesrv = System.getenv("NAMESRV_ADDR");
        Path dir = Files.createTempDirectory("mqadmin");
        Path made = dir.resolve("made");
        List<String> rows = new ArrayList<>();
        try (Fixtures fixtures = new Fixtures(namesrv, dir)) {
            Steps runner = new Steps(namesrv);
            fixtures.variables().put("made", made.toString());
            for (Step s : steps) {
                Thread.sleep(s.pause() * 1_000L);
                Files.createDirectories(made);
                List<String> words = s.filled(fixtures.variables());
                long start = System.nanoTime();
                Steps.Ran ran = s.name().startsWith("@") ? new Steps.Ran("ok", "", fixtures.act(words)) : runner.run(words, s.endless());
                String printed = ran.printed() + "\n" + contents(made);
                List<String> output = s.any() ? List.of() : Text.normalised(printed, fixtures.names(), s.shape());
                List<String> end = Text.normalised(ran.end(), fixtures.names(), false);
                rows.add(new Result(s.command(), String.join(" ", s.words()), String.join(" ", end), ran.codes(), output).row());
                System.err.printf("%5.1f s  %-30s %s%n", (System.nanoTime() - start) / 1e9, ran.end(), String.join(" ", words));
            }
        }
        Files.write(record, rows);
        return true;
    }

    /** The text of the files that a step wrote, which are removed. */
    private static String contents(Path dir) throws IOException {
        StringBuilder text = new StringBuilder();
        List<Path> all;
        try (var walk = Files.walk(dir)) {
            all = walk.sorted(Comparator.reverseOrder()).toList();
        }
        for (Path p : all) {
            if (Files.isRegularFile(p)) {
                text.append("file ").append(dir.relativize(p)).append('\n').append(Files.readString(p)).append('\n');
            }
            Files.delete(p);
        }
        return text.toString();
    }
}
