package io.r2lock;

import io.r2dbc.spi.R2dbcException;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.IntSupplier;
import java.util.stream.Collectors;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.extension.AfterEachCallback;
import org.junit.jupiter.api.extension.BeforeEachCallback;
import org.junit.jupiter.api.extension.ExtensionContext;
import org.slf4j.event.Level;
import reactor.core.Exceptions;
import reactor.core.publisher.Hooks;
import reactor.netty.channel.AbortedException;

/**
 * Fails a test that leaves something behind, on the server or in this JVM.
 *
 * <p>Registered with {@code @RegisterExtension}, it checks after every test (and after its {@code @AfterEach} methods):
 * advisory locks, backends of ours that are active or in a transaction, gauges, dropped errors, log events. What can
 * still be on its way gets {@link #PATIENCE}. Buffers are checked once, after the last test of the class, because that
 * takes garbage collections. A test may call {@link #check()} and {@link #checkLeaks()} itself at any time.
 */
final class NoResidue implements BeforeEachCallback, AfterEachCallback {

    /** How long the checks wait for what is still being cleaned up. */
    static final Duration PATIENCE = Duration.ofSeconds(5);

    private static final ExtensionContext.Namespace NAMESPACE = ExtensionContext.Namespace.create(NoResidue.class);

    private static final String LOCKS = """
            select l.pid, l.classid, l.objid, l.objsubid, l.mode, l.granted, a.application_name, a.state, a.query
            from pg_locks l left join pg_stat_activity a on a.pid = l.pid
            where l.locktype = 'advisory'
              and l.database = (select oid from pg_database where datname = current_database())
              and coalesce(l.pid, 0) <> all ('{%s}'::int[])""";

    private static final String BACKENDS = """
            select pid, application_name, state, wait_event_type, wait_event, query
            from pg_stat_activity
            where application_name like 'r2lock%%' and (state = 'active' or state like 'idle in transaction%%')
              and pid <> all ('{%s}'::int[])""";

    private final List<TestServer> servers = new CopyOnWriteArrayList<>();
    private final Map<String, IntSupplier> gauges = new ConcurrentHashMap<>();
    private final Set<String> gaugesOfTest = ConcurrentHashMap.newKeySet();
    private final Set<Integer> foreignPids = ConcurrentHashMap.newKeySet();
    private final Queue<Throwable> droppedErrors = new ConcurrentLinkedQueue<>();
    private final AtomicReference<@Nullable Throwable> droppedAt = new AtomicReference<>();
    private final Queue<Object> droppedValues = new ConcurrentLinkedQueue<>();
    private final LogWatch logs = new LogWatch();
    private Duration patience = PATIENCE;
    private boolean inTest;
    private boolean errorsMayDrop;
    private boolean buffersMayLeak;

    private NoResidue(TestServer... servers) {
        this.servers.addAll(List.of(servers));
    }

    /** Watches these servers, and those that a test adds with {@link #watch}. */
    static NoResidue on(TestServer... servers) {
        return new NoResidue(servers);
    }

    /** Watches one more server until it is closed. */
    void watch(TestServer server) {
        servers.add(server);
    }

    /** Expects a number to be zero at the end: of this test, or of every test if called before the first. */
    void zero(String name, IntSupplier gauge) {
        gauges.put(name, gauge);
        if (inTest) {
            gaugesOfTest.add(name);
        }
    }

    /** Ignores what this server process holds and does, for the rest of the test. */
    void foreign(int pid) {
        foreignPids.add(pid);
    }

    /** Looks for no buffers in this class, nor do later ones find its own. */
    NoResidue butBuffers() {
        buffersMayLeak = true;
        return this;
    }

    /** Expects errors to be dropped in this test. */
    void allowDroppedErrors() {
        errorsMayDrop = true;
    }

    /** Lets this test fail on dropped values also, which several operators of Reactor drop rightfully. */
    void noDroppedValues() {
        Hooks.onNextDropped(droppedValues::add);
    }

    /** Allows, in this test, log events of this level and below from the loggers with this prefix. */
    void allowLog(Level level, String loggerPrefix) {
        logs.allow(level, loggerPrefix);
    }

    /** Waits less, or longer, than {@link #PATIENCE}. */
    NoResidue patience(Duration patience) {
        this.patience = patience;
        return this;
    }

    /** Starts to watch errors, values and the log; JUnit calls it before each test. */
    void begin() {
        inTest = true;
        errorsMayDrop = false;
        droppedErrors.clear();
        droppedAt.set(null);
        droppedValues.clear();
        foreignPids.clear();
        logs.start();
        Hooks.onErrorDropped(error -> {
            // the driver subscribes to its own close() without an error callback when a connection breaks
            if (!(Exceptions.isErrorCallbackNotImplemented(error) && isOfABrokenConnection(error.getCause()))) {
                droppedErrors.add(error);
                droppedAt.compareAndSet(null, new IllegalStateException("dropped here", error));
            }
        });
    }

    private static boolean isOfABrokenConnection(@Nullable Throwable cause) {
        return cause instanceof IOException
                || cause instanceof AbortedException
                || (cause instanceof R2dbcException fromDriver && "08006".equals(fromDriver.getSqlState()));
    }

    /** Stops to watch. */
    void end() {
        Hooks.resetOnErrorDropped();
        Hooks.resetOnNextDropped();
        logs.stop();
        gaugesOfTest.forEach(gauges::remove);
        gaugesOfTest.clear();
        servers.removeIf(TestServer::isClosed);
        inTest = false;
    }

    /** Checks everything but buffers, waiting for what is still on its way. */
    void check() {
        List<String> left = Await.value(this::left, List::isEmpty, patience);
        if (!errorsMayDrop) {
            droppedErrors.forEach(new Adder("dropped error", left)::add);
        }
        droppedValues.forEach(new Adder("dropped value", left)::add);
        logs.unexpected().forEach(new Adder("log", left)::add);
        fail(left, droppedAt.get());
    }

    /** Checks that no buffer was collected unreleased. Takes garbage collections. */
    void checkLeaks() {
        boolean watching = logs.isStarted();
        if (!watching) {
            logs.start();
        }
        BufferLeaks.report();
        List<String> leaks = logs.leaks();
        if (!watching) {
            logs.stop();
        }
        fail(leaks, null);
    }

    @Override
    public void beforeEach(ExtensionContext context) {
        ExtensionContext ofClass = context;
        while (ofClass.getTestMethod().isPresent()) {
            ofClass = ofClass.getParent().orElseThrow();
        }
        // the store is closed after the class's last test, also if the extension is an instance field
        ofClass.getStore(NAMESPACE)
                .computeIfAbsent(BufferLeaks.class, key -> (AutoCloseable) on()::checkLeaks, AutoCloseable.class);
        if (buffersMayLeak) {
            BufferLeaks.ignore();
        } else {
            BufferLeaks.watch();
        }
        begin();
    }

    @Override
    public void afterEach(ExtensionContext context) {
        try {
            check();
        } finally {
            end();
        }
    }

    private List<String> left() {
        List<String> left = new ArrayList<>();
        String foreign = foreignPids.stream().map(Object::toString).collect(Collectors.joining(","));
        for (TestServer server : servers) {
            if (!server.isClosed()) {
                rows(server, LOCKS.formatted(foreign)).forEach(new Adder(server + ": advisory lock", left)::add);
                rows(server, BACKENDS.formatted(foreign)).forEach(new Adder(server + ": backend", left)::add);
            }
        }
        gauges.forEach((name, gauge) -> {
            int value = gauge.getAsInt();
            if (value != 0) {
                left.add(name + " = " + value);
            }
        });
        return left;
    }

    private static List<?> rows(TestServer server, String sql) {
        try {
            return server.query(sql);
        } catch (IllegalStateException e) {
            return List.of("cannot be asked: " + e.getCause());
        }
    }

    private static void fail(List<String> left, @Nullable Throwable cause) {
        if (!left.isEmpty()) {
            throw new AssertionError("left behind:\n  " + String.join("\n  ", left), cause);
        }
    }

    private record Adder(String what, List<String> lines) {
        void add(Object detail) {
            lines.add(what + ": " + detail);
        }
    }
}
