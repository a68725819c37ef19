package interop.mqadmin;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.remoting.exception.RemotingException;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/**
 * Which request codes a cluster serves, and what it answers to a request that lacks everything: each is sent once, with neither header
 * nor body, and is served unless the answer is "not supported". So it must be a cluster that nobody needs: a few requests do something without a header (cleaning up).
 */
final class Probe {
    private static final String NOT_SUPPORTED = "3";
    private static final int TIMEOUT_MS = 2_000;

    private Probe() {}

    /**
     * @param codes   lines of code, name, receiver ({@code broker}, {@code namesrv}; others are not sent)
     * @param served  code, {@code yes} or {@code no}, the code of the answer or {@code -} when there was none; a line each
     */
    static boolean all(Path codes, Path served) throws Exception {
        String namesrv = System.getenv("NAMESRV_ADDR");
        DefaultMQAdminExt admin = new DefaultMQAdminExt(10_000);
        admin.setNamesrvAddr(namesrv);
        admin.setInstanceName("probe");
        admin.start();
        var info = admin.examineBrokerClusterInfo();
        String broker = info.getBrokerAddrTable().values().iterator().next().getBrokerAddrs().get(0L);
        DefaultMQProducer producer = new DefaultMQProducer("probe");
        producer.setNamesrvAddr(namesrv);
        producer.start();
        var client = producer.getDefaultMQProducerImpl().getmQClientFactory().getMQClientAPIImpl().getRemotingClient();
        List<String> rows = new ArrayList<>();
        for (String row : Files.readAllLines(codes)) {
            String[] f = row.split("\t", -1);
            if (row.startsWith("#") || !f[2].equals("broker") && !f[2].equals("namesrv")) {
                continue;
            }
            String answer = "-";
            try {
                RemotingCommand request = RemotingCommand.createRequestCommand(Integer.parseInt(f[0]), null);
                answer = "" + client.invokeSync(f[2].equals("broker") ? broker : namesrv, request, TIMEOUT_MS).getCode();
            } catch (RemotingException e) {
                // no answer to such a request: somebody knew the code
                System.err.println(f[0] + " " + f[1] + ": " + e.getMessage());
            }
            rows.add(f[0] + "\t" + (answer.equals(NOT_SUPPORTED) ? "no" : "yes") + "\t" + answer);
        }
        Files.write(served, rows);
        producer.shutdown();
        admin.shutdown();
        return true;
    }
}
