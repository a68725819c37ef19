import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.apache.rocketmq.filter.expression.EvaluationContext;
import org.apache.rocketmq.filter.expression.Expression;
import org.apache.rocketmq.filter.parser.SelectorParser;

/**
 * Random SQL92 expressions and what RocketMQ's own evaluator makes of them, for broker/src/sql/golden.txt: a letter, a tab, the
 * expression. T, F, N (null), E (the evaluation fails), X (refused). The properties are those of PROPERTIES; all other names are null.
 *
 *   java -cp "$INTEROP_HOME/server5/lib/*" interop/golden/GoldenFilters.java 3000 > broker/src/sql/golden.txt
 */
public class GoldenFilters {
    static final Map<String, String> PROPERTIES = new HashMap<>();
    static final Random RANDOM = new Random(Long.getLong("seed", 92));

    static {
        PROPERTIES.put("i", "3");
        PROPERTIES.put("n", "-70000000000");
        PROPERTIES.put("d", "2.5");
        PROPERTIES.put("s", "order");
        PROPERTIES.put("t", "true");
        PROPERTIES.put("e", "");
        PROPERTIES.put("q", "it's");
    }

    static String one(String... of) {
        return of[RANDOM.nextInt(of.length)];
    }

    static String name() {
        return one("i", "n", "d", "s", "t", "e", "q", "missing", "i", "d");
    }

    static String text() {
        return one("'order'", "'ord'", "'er'", "'3'", "'2.5'", "'true'", "''", "'it''s'", "'x'");
    }

    static String value() {
        switch (RANDOM.nextInt(12)) {
            case 0: case 1: case 2: case 3: return name();
            case 4: case 5: return one("0", "1", "2", "3", "4", "007", "3L", "2147483648", "70000000000", "9223372036854775808");
            case 6: return one("2.5", "2.", ".5", "3e0", "0.0", "1E-2", "1e400");
            case 7: case 8: return text();
            case 9: return one("TRUE", "false", "NULL");
            case 10: return one("-", "+", "- -", "NOT ") + value();
            default: return "(" + condition(0) + ")";
        }
    }

    static String condition(int depth) {
        if (depth > 0 && RANDOM.nextInt(3) > 0) {
            String joined = condition(depth - 1) + one(" AND ", " or ", " AND ", " OR ", " = ", " <> ") + condition(depth - 1);
            return RANDOM.nextInt(3) == 0 ? "(" + joined + ")" : RANDOM.nextInt(5) == 0 ? "NOT (" + joined + ")" : joined;
        }
        String not = one("", "", "NOT ");
        switch (RANDOM.nextInt(11)) {
            case 0: return value();
            case 1: case 2: case 3: return value() + one("=", " <> ", ">", " >= ", "<", " <= ") + value();
            case 4: return value() + " IS " + not + "NULL";
            case 5: return value() + " " + not + "BETWEEN " + value() + " AND " + value();
            case 6: return name() + " " + not + "IN (" + text() + ", " + text() + ")";
            case 7: return value() + " " + not + one("CONTAINS ", "STARTSWITH ", "EndsWith ") + text();
            case 8: return name() + one(" = ", " > ", " <= ") + one("3", "2.5", "-1", "'order'");
            case 9: return name() + " " + not + "BETWEEN " + one("1", "2", "-3", "2.5") + " AND " + one("3", "4", "2.6");
            default: return value() + one(" ", " IS ", " NOT ", " = ", "(", ")", "--", "#", "'", " IN (3)", ",") + value();
        }
    }

    public static void main(String[] args) {
        List<String> lines = new ArrayList<>();
        EvaluationContext context = new EvaluationContext() {
            public Object get(String name) {
                return PROPERTIES.get(name);
            }

            public Map<String, Object> keyValues() {
                return new HashMap<>(PROPERTIES);
            }
        };
        while (lines.size() < Integer.parseInt(args[0])) {
            String sql = condition(RANDOM.nextInt(3));
            String verdict;
            try {
                Expression expression = SelectorParser.parse(sql);
                try {
                    Object value = expression.evaluate(context);
                    verdict = value == null ? "N" : (Boolean) value ? "T" : "F";
                } catch (Exception e) {
                    verdict = "E";
                }
            } catch (Exception e) {
                verdict = "X";
            }
            lines.add(verdict + "\t" + sql);
        }
        lines.forEach(System.out::println);
    }
}
