package interop.mqadmin;

import java.util.List;
import org.apache.commons.cli.CommandLineParser;
import org.apache.rocketmq.tools.command.MQAdminStartup;
import org.apache.rocketmq.tools.command.SubCommand;

/** The tool's own list of sub-commands; a fresh one each time, because they keep clients of an earlier call in their fields. */
final class Commands extends MQAdminStartup {
    private Commands() {}

    /** The sub-command of that name, or null where this version of the tool has none. */
    static SubCommand find(String name) throws ReflectiveOperationException {
        for (SubCommand c : fresh()) {
            if (c.commandName().equalsIgnoreCase(name)) {
                return c;
            }
        }
        return null;
    }

    /** All, in the order of the tool's help. */
    static List<SubCommand> fresh() throws ReflectiveOperationException {
        for (var f : MQAdminStartup.class.getDeclaredFields()) {
            if (List.class.isAssignableFrom(f.getType())) {
                f.setAccessible(true);
                @SuppressWarnings("unchecked")
                List<SubCommand> all = (List<SubCommand>) f.get(null);
                all.clear();
                initCommand();
                return all;
            }
        }
        throw new NoSuchFieldException("the tool's list of sub-commands");
    }

    /** The parser that this version of the tool parses its arguments with. */
    static CommandLineParser parser() throws ReflectiveOperationException {
        String name = "org.apache.commons.cli.DefaultParser";
        try {
            return (CommandLineParser) Class.forName(name).getDeclaredConstructor().newInstance();
        } catch (ClassNotFoundException e) {
            return (CommandLineParser) Class.forName("org.apache.commons.cli.PosixParser").getDeclaredConstructor().newInstance();
        }
    }
}
