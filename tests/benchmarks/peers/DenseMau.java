import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.time.Duration;
import java.time.LocalDate;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams in its dense layout: one value of the store for each installation, a matrix of day masks.
 *
 * <p>The bytes of the store's value are worked on in place, so a ping that finds its installation in the record cache costs
 * neither serialisation nor a copy. A record with the day's figures goes to the result topic for each day that is new or has
 * changed. The process ends once every partition is read up to its end as of the start and everything is committed.
 *
 * <p>Left out, in its favour: lateness, duplicates, days beyond 64, user ids that are no numbers, pseudonyms, dau and wau.
 */
public final class DenseMau {
    private static final String STORE = "installations";

    public static void main(String[] arguments) throws Exception {
        JsonNode task = new ObjectMapper().readTree(new File(arguments[0]));
        Catalogue catalogue = new Catalogue(task);
        Set<Integer> open = ConcurrentHashMap.newKeySet();
        Map<Integer, Long> ends = new HashMap<>();
        task.get("ends").properties().forEach(end -> {
            ends.put(Integer.valueOf(end.getKey()), end.getValue().asLong());
            if (end.getValue().asLong() > 0) {
                open.add(Integer.valueOf(end.getKey()));
            }
        });
        CountDownLatch finished = new CountDownLatch(1);

        Topology topology = new Topology();
        topology.addSource("pings", new ByteArrayDeserializer(), new ByteArrayDeserializer(), task.get("topic").asText());
        topology.addProcessor("folding", () -> new Folding(catalogue, ends, open, finished), "pings");
        topology.addStateStore(
            Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(STORE), Serdes.ByteArray(), Serdes.ByteArray())
                .withCachingEnabled()
                .withLoggingEnabled(Map.of()),
            "folding");
        topology.addSink("figures", task.get("results").asText(), new ByteArraySerializer(), new ByteArraySerializer(), "folding");

        boolean[] failed = {false};
        try (KafkaStreams streams = new KafkaStreams(topology, settings(task))) {
            streams.setUncaughtExceptionHandler(exception -> {
                exception.printStackTrace();
                failed[0] = true;
                finished.countDown();
                return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
            });
            streams.start();
            finished.await();
            if (!streams.close(Duration.ofSeconds(120))) {
                failed[0] = true;
            }
        }
        System.exit(failed[0] ? 1 : 0);
    }

    private static Properties settings(JsonNode task) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, task.get("group").asText());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, task.get("kafka").asText());
        settings.put(StreamsConfig.STATE_DIR_CONFIG, task.get("folder").asText() + "/streams");
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, task.get("threads").asInt());
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 512L << 20);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5_000);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 8 << 20);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 50);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.MAX_REQUEST_SIZE_CONFIG), 8 << 20);
        return settings;
    }

    /** What there is to be counted: (stage, feature) by column, and days by their date. */
    private static final class Catalogue {
        final int stages;
        final int features;
        private final Map<String, Map<String, Integer>> columns = new HashMap<>();
        private final Map<String, Integer> days = new HashMap<>();

        Catalogue(JsonNode task) {
            stages = task.get("stages").asInt();
            features = task.get("features").size();
            int column = 0;
            for (JsonNode name : task.get("features")) {
                columns.computeIfAbsent(name.get(0).asText(), stage -> new HashMap<>()).put(name.get(1).asText(), column++);
            }
            LocalDate first = LocalDate.parse(task.get("first_day").asText());
            for (int day = 0; day < Math.min(64, task.get("days").asInt()); day++) {
                days.put(first.plusDays(day).toString(), day);
            }
        }

        int column(String stage, String feature) {
            return columns.get(stage).get(feature);
        }

        int day(String date) {
            return days.get(date);
        }
    }

    /** The bytes of an installation: a table from user id to row, the ids by row, and a mask of days by feature and row. */
    private static final class Matrix {
        private static final VarHandle INT = MethodHandles.byteArrayViewVarHandle(int[].class, ByteOrder.LITTLE_ENDIAN);
        private static final VarHandle LONG = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
        private static final int USERS = 0;
        private static final int CAPACITY = 4;
        private static final int SLOTS = 8;
        private static final int NEWEST = 12;
        private static final int HEAD = 16;

        private final int features;
        byte[] bytes;
        int users;
        private int capacity;
        private int slots;
        private int ids;
        private int masks;

        Matrix(int features) {
            this.features = features;
        }

        /** Works on these bytes from now on; on those of an empty matrix for null. */
        void open(byte[] found) {
            if (found == null) {
                make(16);
                INT.set(bytes, NEWEST, -1);
            } else {
                bytes = found;
                place();
            }
        }

        private void make(int rows) {
            int index = Integer.highestOneBit(rows) * 4;
            bytes = new byte[HEAD + 4 * index + 8 * rows * (1 + features)];
            INT.set(bytes, CAPACITY, rows);
            INT.set(bytes, SLOTS, index);
            place();
        }

        private void place() {
            users = (int) INT.get(bytes, USERS);
            capacity = (int) INT.get(bytes, CAPACITY);
            slots = (int) INT.get(bytes, SLOTS);
            ids = HEAD + 4 * slots;
            masks = ids + 8 * capacity;
        }

        int newest() {
            return (int) INT.get(bytes, NEWEST);
        }

        void newest(int day) {
            INT.set(bytes, NEWEST, day);
        }

        /** The row of a user, a new one for a new user. */
        int row(long user) {
            int slot = slot(user);
            int row = (int) INT.get(bytes, HEAD + 4 * slot) - 1;
            if (row >= 0) {
                return row;
            }
            if (users == capacity) {
                grow();
                slot = slot(user);
            }
            LONG.set(bytes, ids + 8 * users, user);
            INT.set(bytes, HEAD + 4 * slot, users + 1);
            INT.set(bytes, USERS, ++users);
            return users - 1;
        }

        private int slot(long user) {
            int slot = (int) ((user * 0x9E3779B97F4A7C15L) >>> 40) & (slots - 1);
            while (true) {
                int row = (int) INT.get(bytes, HEAD + 4 * slot) - 1;
                if (row < 0 || (long) LONG.get(bytes, ids + 8 * row) == user) {
                    return slot;
                }
                slot = (slot + 1) & (slots - 1);
            }
        }

        private void grow() {
            byte[] old = bytes;
            int oldIds = ids;
            int oldMasks = masks;
            int oldCapacity = capacity;
            int kept = users;
            int newestDay = newest();
            make(capacity + Math.max(16, capacity / 4));
            newest(newestDay);
            for (int row = 0; row < kept; row++) {
                row((long) LONG.get(old, oldIds + 8 * row));
            }
            for (int feature = 0; feature < features; feature++) {
                System.arraycopy(old, oldMasks + 8 * feature * oldCapacity, bytes, masks + 8 * feature * capacity, 8 * kept);
            }
        }

        /** Sets a day of a user and feature; whether it is new. */
        boolean set(int feature, int row, long bit) {
            int place = masks + 8 * (feature * capacity + row);
            long mask = (long) LONG.get(bytes, place);
            LONG.set(bytes, place, mask | bit);
            return (mask & bit) == 0;
        }

        /** The bytes of a record with the figures of a day. */
        byte[] figures(int stages, int day, long[] ofStage, long[] ofAll) {
            long window = (-1L >>> (63 - day)) & (day < 28 ? -1L : -1L << (day - 27));
            byte[] record = new byte[4 * (2 + stages + features)];
            INT.set(record, 0, day);
            Arrays.fill(ofAll, 0, users, 0);
            int each = features / stages;
            for (int stage = 0; stage < stages; stage++) {
                Arrays.fill(ofStage, 0, users, 0);
                for (int feature = stage * each; feature < (stage + 1) * each; feature++) {
                    int start = masks + 8 * feature * capacity;
                    int count = 0;
                    for (int row = 0; row < users; row++) {
                        long seen = (long) LONG.get(bytes, start + 8 * row) & window;
                        count += seen != 0 ? 1 : 0;
                        ofStage[row] |= seen;
                    }
                    INT.set(record, 4 * (2 + stages + feature), count);
                }
                int count = 0;
                for (int row = 0; row < users; row++) {
                    count += ofStage[row] != 0 ? 1 : 0;
                    ofAll[row] |= ofStage[row];
                }
                INT.set(record, 4 * (2 + stage), count);
            }
            int count = 0;
            for (int row = 0; row < users; row++) {
                count += ofAll[row] != 0 ? 1 : 0;
            }
            INT.set(record, 4, count);
            return record;
        }
    }

    private static final class Folding implements Processor<byte[], byte[], byte[], byte[]> {
        private final Catalogue catalogue;
        private final Map<Integer, Long> ends;
        private final Set<Integer> open;
        private final CountDownLatch finished;
        private final JsonFactory json = new JsonFactory();
        private final Matrix matrix;
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<byte[], byte[]> store;
        private long[] ofStage = new long[0];
        private long[] ofAll = new long[0];

        Folding(Catalogue catalogue, Map<Integer, Long> ends, Set<Integer> open, CountDownLatch finished) {
            this.catalogue = catalogue;
            this.ends = ends;
            this.open = open;
            this.finished = finished;
            matrix = new Matrix(catalogue.features);
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> given) {
            context = given;
            store = given.getStateStore(STORE);
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            matrix.open(store.get(record.key()));
            int before = matrix.newest();
            int changed;
            try {
                changed = fold(record.value());
            } catch (IOException exception) {
                throw new UncheckedIOException(exception);
            }
            int newest = matrix.newest();
            store.put(record.key(), matrix.bytes);
            if (ofAll.length < matrix.users) {
                ofStage = new long[2 * matrix.users];
                ofAll = new long[2 * matrix.users];
            }
            for (int day = Math.min(changed, before + 1); day <= newest; day++) {
                context.forward(record.withValue(matrix.figures(catalogue.stages, day, ofStage, ofAll)));
            }
            RecordMetadata place = context.recordMetadata().orElseThrow();
            if (place.offset() + 1 >= ends.get(place.partition())) {
                open.remove(place.partition());
                if (open.isEmpty()) {
                    finished.countDown();
                }
            }
        }

        /** Folds a ping; the first day with something new, a day after all when there is none. */
        private int fold(byte[] ping) throws IOException {
            int changed = Integer.MAX_VALUE;
            int newest = matrix.newest();
            try (JsonParser parser = json.createParser(ping)) {
                parser.nextToken();
                while (parser.nextToken() == JsonToken.FIELD_NAME) {
                    String name = parser.currentName();
                    JsonToken value = parser.nextToken();
                    if (name.equals("recorded_at")) {
                        newest = Math.max(newest, catalogue.day(parser.getText().substring(0, 10)));
                    } else if (name.equals("activity")) {
                        while (parser.nextToken() == JsonToken.START_OBJECT) {
                            changed = Math.min(changed, entry(parser));
                        }
                    } else if (value.isStructStart()) {
                        parser.skipChildren();
                    }
                }
            }
            matrix.newest(newest);
            return changed;
        }

        /** Folds an entry, whose users stand behind its names; its day if something in it is new. */
        private int entry(JsonParser parser) throws IOException {
            int day = 0;
            String stage = "";
            String feature = "";
            boolean changed = false;
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                String name = parser.currentName();
                JsonToken value = parser.nextToken();
                switch (name) {
                    case "date" -> day = catalogue.day(parser.getText());
                    case "stage" -> stage = parser.getText();
                    case "feature" -> feature = parser.getText();
                    case "users" -> {
                        int column = catalogue.column(stage, feature);
                        long bit = 1L << day;
                        while (parser.nextToken() == JsonToken.VALUE_NUMBER_INT) {
                            changed |= matrix.set(column, matrix.row(parser.getLongValue()), bit);
                        }
                    }
                    default -> {
                        if (value.isStructStart()) {
                            parser.skipChildren();
                        }
                    }
                }
            }
            return changed ? day : Integer.MAX_VALUE;
        }
    }
}
