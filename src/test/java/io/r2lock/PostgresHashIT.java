package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import io.r2dbc.spi.Connection;
import io.r2dbc.spi.Result;
import io.r2dbc.spi.Row;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** The recipes that SQL knows, too, held against a live server. */
class PostgresHashIT {

    private static final int BATCH = 1_000;
    private static final int RANDOM_BATCHES = Boolean.getBoolean("long") ? 100 : 12;
    private static final int LONG_TEXTS = 60;
    private static final int LONGEST = 100_000;

    /** What a code point is drawn from: ASCII, and those of two, three and four UTF-8 bytes. */
    private static final int[][] ALPHABETS = {
        {0x01, 0x80}, {0x80, 0x800}, {0x800, 0xD800}, {0xE000, 0x10000}, {0x10000, 0x110000}
    };

    private static @Nullable Connection connection;

    private final SplittableRandom random = new SplittableRandom();

    private record Sample(String text, long seed) {}

    private record Hashes(long hashtext, long hashtextExtended) {}

    @BeforeAll
    static void connect() {
        connection = connection();
    }

    private static Connection connection() {
        return Objects.requireNonNull(
                TestServer.newest().connectionFactory().create().block());
    }

    @AfterAll
    static void disconnect() {
        if (connection != null) {
            Mono.from(connection.close()).block();
        }
    }

    @Test
    void everyLengthFrom0To64_inEveryAlphabet() {
        List<Sample> samples = new ArrayList<>();
        for (int length = 0; length <= 64; length++) {
            for (int[] alphabet : ALPHABETS) {
                for (long seed : new long[] {0, random.nextLong(), -1 - random.nextInt(1_000)}) {
                    samples.add(new Sample(text(length, alphabet), seed));
                }
            }
        }
        assertSameOnServer(samples);
    }

    @Test
    void randomTexts_mixedAlphabets() {
        for (int batch = 0; batch < RANDOM_BATCHES; batch++) {
            assertSameOnServer(IntStream.range(0, BATCH)
                    .mapToObj(i -> new Sample(text(random.nextInt(200), ALPHABETS), seed()))
                    .toList());
        }
    }

    @Test
    void longTexts() {
        assertSameOnServer(IntStream.range(0, LONG_TEXTS)
                .mapToObj(i -> new Sample(text(random.nextInt(LONGEST), ALPHABETS), seed()))
                .toList());
    }

    @Test
    void seedsAtTheEdgesOfTheirHalves() {
        assertSameOnServer(
                LongStream.of(0, 1, -1, 1L << 32, 0xFFFFFFFFL, 0xFFFFFFFFL << 32, Long.MIN_VALUE, Long.MAX_VALUE)
                        .mapToObj(seed -> new Sample("job", seed))
                        .toList());
    }

    @Test
    void theSqlInTheDocumentation_givesTheNumbersInTheDocumentation() {
        assertThat(number("hashtext('job')")).isEqualTo(LockKey.hashtext("job").value());
        assertThat(number("hashtext('')")).isEqualTo(LockKey.hashtext("").value());
        assertThat(number("hashtextextended('job', 0)"))
                .isEqualTo(LockKey.hashtextExtended("job", 0).value());
        assertThat(number("hashtextextended('job', 42)"))
                .isEqualTo(LockKey.hashtextExtended("job", 42).value());
        assertThat(number("('x' || left(md5('nightly'), 16))::bit(64)::bigint"))
                .isEqualTo(LockKey.md5("nightly").value());
        assertThat(number("('x' || left(encode(sha256(int4send(octet_length('order'))"
                        + " || convert_to('order' || '42', 'UTF8')), 'hex'), 16))::bit(64)::bigint"))
                .isEqualTo(LockKey.named("order", "42").value());
    }

    private void assertSameOnServer(List<Sample> samples) {
        List<Hashes> expected = onServer(samples);
        assertThat(expected).hasSameSizeAs(samples);
        for (int i = 0; i < samples.size(); i++) {
            Sample sample = samples.get(i);
            Hashes client = new Hashes(
                    LockKey.hashtext(sample.text).value(),
                    LockKey.hashtextExtended(sample.text, sample.seed).value());
            assertThat(client).as("%s", sample).isEqualTo(expected.get(i));
        }
    }

    private static List<Hashes> onServer(List<Sample> samples) {
        String sql = """
                SELECT hashtext(t)::bigint, hashtextextended(t, s)
                FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS sample(t, s, i) ORDER BY i""";
        String[] texts = samples.stream().map(Sample::text).toArray(String[]::new);
        Long[] seeds = samples.stream().map(Sample::seed).toArray(Long[]::new);
        return rows(Objects.requireNonNull(connection)
                .createStatement(sql)
                .bind("$1", texts)
                .bind("$2", seeds)
                .execute());
    }

    private static long number(String expression) {
        return rows(Objects.requireNonNull(connection)
                        .createStatement("SELECT (" + expression + ")::bigint, 0::bigint")
                        .execute())
                .get(0)
                .hashtext;
    }

    private static List<Hashes> rows(Publisher<? extends Result> results) {
        return Flux.from(results)
                .flatMap(result -> result.map((row, metadata) -> new Hashes(number(row, 0), number(row, 1))))
                .collectList()
                .blockOptional()
                .orElseThrow();
    }

    private static long number(Row row, int column) {
        return Objects.requireNonNull(row.get(column, Long.class));
    }

    private long seed() {
        return random.nextInt(4) == 0 ? 0 : random.nextLong();
    }

    /** A text of so many code points, each from one of the alphabets. */
    private String text(int length, int[]... alphabets) {
        return IntStream.range(0, length)
                .map(i -> {
                    int[] alphabet = alphabets[random.nextInt(alphabets.length)];
                    return random.nextInt(alphabet[0], alphabet[1]);
                })
                .collect(StringBuilder::new, StringBuilder::appendCodePoint, StringBuilder::append)
                .toString();
    }
}
