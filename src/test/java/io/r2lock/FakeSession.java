package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.postgresql.api.PostgresqlResult;
import io.r2dbc.postgresql.api.PostgresqlStatement;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.IntFunction;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.FluxSink;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/**
 * A session without a server: a model of one backend's advisory locks, counted as PostgreSQL does. It answers when the test
 * says so, and a message may fail in the middle, where it keeps the locks that it had taken.
 */
final class FakeSession {

    /** How a message fails: after so many of its calls. */
    record Failure(int after, Throwable error) {}

    private static final Pattern FUNCTION = Pattern.compile("(pg_\\w+)\\(");
    private static final Pattern LISTS = Pattern.compile("'\\{([^}]*)}'");
    private static final Pattern ONE = Pattern.compile("\\('(-?\\d+)'(?:,'(-?\\d+)')?\\)");

    /** A message on the wire. */
    private record Message(int number, String sql, FluxSink<PostgresqlResult> sink) {}

    /** Of transactions, of all sessions. */
    private static final AtomicLong IDS = new AtomicLong(700);

    final List<String> messages = new CopyOnWriteArrayList<>();
    final AtomicInteger mostInFlight = new AtomicInteger();
    final AtomicInteger closes = new AtomicInteger();
    private final Queue<Message> inFlight = new ConcurrentLinkedQueue<>();
    private final Sinks.Empty<Void> broken = Sinks.empty();
    private final Map<SessionClaims.Held, Integer> held = new HashMap<>();
    private final Set<LockKey> busy = new HashSet<>();
    private volatile boolean answersAtOnce;

    /** How the message with this number fails, from 0 on. */
    volatile IntFunction<@Nullable Failure> failures = number -> null;

    FakeSession answersAtOnce() {
        answersAtOnce = true;
        return this;
    }

    FakeSession answersAtOnce(boolean atOnce) {
        answersAtOnce = atOnce;
        return this;
    }

    /** Somebody else holds the key. */
    FakeSession busy(LockKey key) {
        busy.add(key);
        return this;
    }

    PostgresqlConnection wire() {
        return proxy(PostgresqlConnection.class, (self, method, arguments) -> switch (method.getName()) {
            case "getNotifications" -> broken.asMono().flux();
            case "createStatement" -> statement((String) arguments[0]);
            case "close" -> Mono.fromRunnable(closes::incrementAndGet);
            default -> throw new UnsupportedOperationException(method.toString());
        });
    }

    /** What the session holds, by the server. */
    synchronized Map<SessionClaims.Held, Integer> held() {
        return Map.copyOf(held);
    }

    /** The server forgets a lock, which no server does. */
    synchronized void forget(LockKey key) {
        held.keySet().removeIf(lock -> lock.key().equals(key));
    }

    int inFlight() {
        return inFlight.size();
    }

    /** Answers the oldest message. */
    void answer() {
        Message message = inFlight.remove();
        run(message);
    }

    /** Answers whatever comes until nothing more does. */
    void answerAll() {
        while (!inFlight.isEmpty()) {
            answer();
        }
    }

    /** The socket closes. */
    void breaks(Throwable error) {
        broken.tryEmitError(error);
        for (Message message = inFlight.poll(); message != null; message = inFlight.poll()) {
            message.sink.error(error);
        }
    }

    private PostgresqlStatement statement(String sql) {
        return proxy(PostgresqlStatement.class, (self, method, arguments) -> switch (method.getName()) {
            case "fetchSize" -> self;
            case "execute" ->
                Flux.<PostgresqlResult>create(sink -> {
                    Message message;
                    synchronized (this) {
                        message = new Message(messages.size(), sql, sink);
                        messages.add(sql);
                        assertNoKeyTwice(message);
                        inFlight.add(message);
                    }
                    mostInFlight.accumulateAndGet(inFlight.size(), Math::max);
                    if (answersAtOnce) {
                        answer();
                    }
                });
            default -> throw new UnsupportedOperationException(method.toString());
        });
    }

    private void assertNoKeyTwice(Message added) {
        List<LockKey> keys = new ArrayList<>(keys(added.sql));
        inFlight.forEach(message -> keys.addAll(keys(message.sql)));
        assertThat(keys).doesNotHaveDuplicates();
    }

    static List<LockKey> keys(String sql) {
        return Stream.of(sql.split(";", -1))
                .flatMap(statement -> keysOfStatement(statement).stream())
                .toList();
    }

    private static List<LockKey> keysOfStatement(String statement) {
        Matcher one = ONE.matcher(statement);
        if (one.find()) {
            String second = one.group(2);
            return List.of(
                    second == null
                            ? LockKey.of(Long.parseLong(one.group(1)))
                            : LockKey.of(Integer.parseInt(one.group(1)), Integer.parseInt(second)));
        }
        Matcher lists = LISTS.matcher(statement);
        if (!lists.find()) {
            return List.of();
        }
        String[] first = lists.group(1).split(",", -1);
        String[] second = lists.find() ? lists.group(1).split(",", -1) : new String[0];
        List<LockKey> keys = new ArrayList<>();
        for (int i = 0; i < first.length; i++) {
            keys.add(
                    second.length == 0
                            ? LockKey.of(Long.parseLong(first[i]))
                            : LockKey.of(Integer.parseInt(first[i]), Integer.parseInt(second[i])));
        }
        return keys;
    }

    private void run(Message message) {
        Failure failure = failures.apply(message.number);
        int left = failure == null ? Integer.MAX_VALUE : failure.after;
        for (String statement : message.sql.split(";", -1)) {
            if (statement.contains("pg_locks")) {
                if (left > 0) {
                    message.sink.next(result(list()));
                }
                left--;
                continue;
            }
            if (statement.contains("pg_current_xact_id")) {
                if (left > 0) {
                    message.sink.next(result(Long.toString(IDS.incrementAndGet())));
                }
                left--;
                continue;
            }
            List<LockKey> keys = keysOfStatement(statement);
            StringBuilder answer = new StringBuilder();
            for (int i = 0; i < keys.size() && left > 0; i++, left--) {
                answer.append(call(statement, keys.get(i)) ? '1' : '0');
            }
            if (answer.length() < keys.size()) {
                break;
            }
            message.sink.next(result(answer.toString()));
        }
        if (failure != null) {
            message.sink.error(failure.error);
        } else {
            message.sink.complete();
        }
    }

    private synchronized boolean call(String statement, LockKey key) {
        Matcher function = FUNCTION.matcher(statement);
        assertThat(function.find()).isTrue();
        String name = function.group(1);
        SessionClaims.Held lock =
                new SessionClaims.Held(key, name.endsWith("_shared") ? LockMode.SHARED : LockMode.EXCLUSIVE);
        if (name.startsWith("pg_advisory_unlock")) {
            Integer count = held.get(lock);
            if (count == null) {
                return false;
            }
            held.compute(lock, (same, before) -> count == 1 ? null : count - 1);
            return true;
        }
        if (busy.contains(key)) {
            return false;
        }
        held.merge(lock, 1, Integer::sum);
        return true;
    }

    private synchronized String list() {
        return held.keySet().stream()
                .map(lock -> (lock.key().isPair() ? "2" : "1")
                        + (lock.mode() == LockMode.EXCLUSIVE ? "x" : "s")
                        + lock.key().value())
                .collect(Collectors.joining(","));
    }

    private static PostgresqlResult result(String text) {
        return proxy(PostgresqlResult.class, (self, method, arguments) -> switch (method.getName()) {
            case "map" -> Flux.just(text);
            default -> throw new UnsupportedOperationException(method.toString());
        });
    }

    private static <T> T proxy(Class<T> type, InvocationHandler handler) {
        return type.cast(Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, handler));
    }
}
