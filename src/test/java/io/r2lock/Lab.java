package io.r2lock;

import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/**
 * One server and the processes that take locks on it: two directly, one in each scope, one from inside a network and one through a
 * proxy, which mix the scopes. A session lock and a transaction's of one key exclude each other.
 */
final class Lab implements AutoCloseable {

    private static final Duration PATIENCE = Duration.ofSeconds(30);
    private static final int ENOUGH_OF_EACH = 3;
    private static final int ENOUGH_OF_ALL = 30;

    private final Path directory;
    private final long seed;
    private final long seconds;
    private final CuttableNetwork network;
    private final TestServer server;
    private final TcpProxy proxy;
    private final List<Seat> seats = new ArrayList<>();
    private int formerBegins;

    /** A process, and its successors when it is killed. */
    private final class Seat {

        private final String role;
        private final String scope;
        private final List<String> inside;
        private final String host;
        private final int port;
        private int number;
        private LabChild child;

        Seat(String role, String scope, List<String> inside, String host, int port) {
            this.role = role;
            this.scope = scope;
            this.inside = inside;
            this.host = host;
            this.port = port;
            this.child = start();
        }

        private LabChild start() {
            number++;
            Map<String, ?> options = Map.of(
                    "role",
                    "random",
                    "scope",
                    scope,
                    "host",
                    host,
                    "port",
                    port,
                    "seconds",
                    seconds,
                    "seed",
                    seed + seats.size() * 1_000L + number);
            return LabChild.start(directory, "lab-" + role + "-" + number, inside, options);
        }
    }

    /**
     * A lab without processes.
     *
     * @param directory for the logs
     * @param limit after which the processes end by themselves
     */
    Lab(Path directory, long seed, Duration limit, CuttableNetwork network, TestServer server, TcpProxy proxy) {
        this.directory = directory;
        this.seed = seed;
        this.seconds = limit.toSeconds();
        this.network = network;
        this.server = server;
        this.proxy = proxy;
    }

    void start() {
        long start = System.nanoTime();
        seats.add(new Seat("direct", "session", List.of(), server.host(), server.port()));
        seats.add(new Seat("other", "transaction", List.of(), server.host(), server.port()));
        seats.add(new Seat("inside", "mixed", network.inside(), network.serverHost(), server.port()));
        seats.add(new Seat("proxied", "mixed", List.of(), proxy.host(), proxy.port()));
        seats.forEach(seat -> seat.child.awaitReady(start));
    }

    TestServer server() {
        return server;
    }

    CuttableNetwork network() {
        return network;
    }

    TcpProxy proxy() {
        return proxy;
    }

    List<LabChild> processes() {
        return seats.stream().map(seat -> seat.child).toList();
    }

    LabChild inside() {
        return seats.get(2).child;
    }

    LabChild proxied() {
        return seats.get(3).child;
    }

    /** Starts a new process in the place of one that is gone. */
    void replace(LabChild gone) {
        for (Seat seat : seats) {
            if (seat.child.equals(gone)) {
                long start = System.nanoTime();
                formerBegins += gone.begins();
                seat.child = seat.start();
                seat.child.awaitReady(start);
            }
        }
    }

    /** How many holds have begun in all. */
    int begins() {
        return formerBegins + processes().stream().mapToInt(LabChild::begins).sum();
    }

    /** Fails unless every process, and all together, soon take new holds. */
    void awaitProgress(String after) {
        int all = begins() + ENOUGH_OF_ALL;
        List<LabChild> processes = processes();
        List<Integer> each = processes.stream()
                .map(process -> process.begins() + ENOUGH_OF_EACH)
                .toList();
        boolean progress = Await.value(
                () -> {
                    boolean enough = begins() >= all;
                    for (int i = 0; i < each.size(); i++) {
                        enough &= processes.get(i).begins() >= each.get(i);
                    }
                    return enough;
                },
                enough -> enough,
                PATIENCE);
        if (!progress) {
            List<String> found = processes.stream()
                    .map(process -> process.name() + " " + process.begins())
                    .toList();
            throw new AssertionError("no progress within " + PATIENCE + " after " + after + ": wanted " + each + " and "
                    + all + " in all, found " + found + " and " + begins());
        }
    }

    /** Lets all processes end. */
    void end() {
        processes().forEach(LabChild::end);
    }

    @Override
    public void close() {
        processes().forEach(LabChild::close);
    }
}
