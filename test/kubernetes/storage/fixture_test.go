package storage

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/etcd3"
	"k8s.io/apiserver/pkg/storage/feature"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/component-base/featuregate"
	featuregatetesting "k8s.io/component-base/featuregate/testing"
	"k8s.io/utils/clock"

	"github.com/kinsy/kinsy/test/kubernetes/process"
)

const (
	valuePrefix    = "kinsy!" // what PrefixTransformer puts before every value
	resourcePrefix = "/pods/"
	startTimeout   = 30 * time.Second
	hookTimeout    = 30 * time.Second
	pollInterval   = 20 * time.Millisecond
)

var (
	pods   = schema.GroupResource{Resource: "pods"}
	scheme = newScheme()
	codecs = serializer.NewCodecFactory(scheme)
)

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	metav1.AddToGroupVersion(s, metav1.SchemeGroupVersion)
	for _, add := range []func(*runtime.Scheme) error{example.AddToScheme, examplev1.AddToScheme} {
		if err := add(s); err != nil {
			panic(err)
		}
	}
	return s
}

func newPod() runtime.Object     { return &example.Pod{} }
func newPodList() runtime.Object { return &example.PodList{} }

// gates are feature gates of kube-apiserver that a case sets.
type gates map[featuregate.Feature]bool

func (g gates) set(t *testing.T) {
	for name, on := range g {
		featuregatetesting.SetFeatureGateDuringTest(t, utilfeature.DefaultFeatureGate, name, on)
	}
}

// setup says how a fixture differs from the default one.
type setup struct {
	pathPrefix       string
	codec            runtime.Codec
	transformer      value.Transformer
	lease            etcd3.LeaseManagerConfig
	progressInterval time.Duration
}

// etcdStore is what the tests use of the store that etcd3.New returns.
type etcdStore interface {
	storage.Interface
	Close()
}

// fixture is a fresh server with a store of kube-apiserver on it.
type fixture struct {
	kind   process.Kind
	client *kubernetes.Client
	kv     *storagetesting.KVRecorder
	lists  *storagetesting.KubernetesRecorder
	store  etcdStore
	setup  setup
}

// newFixture starts a server and opens a store on it. Both end with the test.
func newFixture(t *testing.T, s setup) *fixture {
	t.Helper()
	f := &fixture{kind: target(t), setup: s}
	f.dial(t, startServer(t, f.kind, s.progressInterval))
	compactor := etcd3.NewCompactor(f.client.Client, 0, clock.RealClock{}, nil)
	t.Cleanup(compactor.Stop)
	versioner := storage.APIObjectVersioner{}
	store, err := etcd3.New(f.client, compactor, s.codec, newPod, newPodList, s.pathPrefix, resourcePrefix, pods,
		s.transformer, s.lease, etcd3.NewDefaultDecoder(s.codec, versioner), versioner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	f.store = store
	awaitProgressSupport(t)
	return f
}

func startServer(t *testing.T, kind process.Kind, progress time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	server, err := process.StartStore(ctx, process.StoreConfig{
		Kind:             kind,
		Binary:           binary(t, kind),
		Dir:              t.TempDir(),
		ProgressInterval: progress,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.Kill()
		if t.Failed() {
			t.Logf("output of the server:\n%s", server.Output())
		}
	})
	return server.Endpoint()
}

// dial connects a client whose reads are counted, as kube-apiserver's own
// storage tests do.
func (f *fixture) dial(t *testing.T, endpoint string) {
	t.Helper()
	client, err := kubernetes.New(clientv3.Config{
		Endpoints:   []string{"http://" + endpoint},
		DialTimeout: startTimeout,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	f.lists = storagetesting.NewKubernetesRecorder(client.Kubernetes)
	f.kv = storagetesting.NewKVRecorder(client.KV, f.lists)
	client.KV, client.Kubernetes = f.kv, f.lists
	f.client = client
}

// awaitProgressSupport waits until kube-apiserver has found, by the version in
// the server's status, that progress requests work: consistent reads from the
// watch cache depend on it.
func awaitProgressSupport(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	err := process.Until(ctx, pollInterval, func(context.Context) error {
		if !feature.DefaultFeatureSupportChecker.Supports(storage.RequestWatchProgress) {
			return errNotSupported
		}
		return nil
	})
	if err != nil {
		t.Fatalf("wait for support of progress requests: %v", err)
	}
}

// storeSetup is what the tests of the bare store start from: values carry a
// prefix, and the transformer may be replaced.
func storeSetup() (setup, transformable) {
	original := storagetesting.NewPrefixTransformer([]byte(valuePrefix), false)
	tr := transformable{transformer: newExchangeable(original), original: original}
	lease := etcd3.NewDefaultLeaseManagerConfig()
	lease.ReuseDurationSeconds = 1 // the default lengthens every TTL by more than the tests wait
	return setup{
		codec:       apitesting.TestCodec(codecs, examplev1.SchemeGroupVersion),
		transformer: tr.transformer,
		lease:       lease,
	}, tr
}
