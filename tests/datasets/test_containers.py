"""The same images in every form that people have them in: equal arrays and labels, and faults that are named."""

import gzip
import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from support.image_files import noise, save

from sagd_cli.config.arguments import parse_dataset
from sagd_cli.datasets.known_hash import KnownHash
from sagd_cli.datasets.loading import dataset_files, load_images, open_images, stream_images
from sagd_cli.errors import ConfigError, DataError, UsageError
from sagd_cli.files.layout import MAX_FILE_BYTES
from sagd_cli.system.console import Output, use_output

pyarrow = pytest.importorskip("pyarrow", reason="the extra hf is not installed")
from pyarrow import parquet  # noqa: E402

COUNT, CLASSES = 60, 3
NAMES = ["ape", "bat", "cat"]
LABELS = np.repeat(np.arange(CLASSES), COUNT // CLASSES)
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 9, 8), dtype=np.uint8)


@pytest.fixture
def said(capfd):
    """Return what was printed on standard error; each test has an Output of its own."""
    use_output(Output())
    return lambda: " ".join(capfd.readouterr().err.split())


def png(image):
    file = io.BytesIO()
    Image.fromarray(np.moveaxis(image, 0, 2)).save(file, "PNG")
    return file.getvalue()


FILES = [png(image) for image in IMAGES]


def write_folder(path):
    for index, (data, label) in enumerate(zip(FILES, LABELS, strict=True)):
        place = path / "folder" / NAMES[label] / f"{index:08d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return path / "folder"


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def samples(first=0, end=COUNT, files=FILES):
    return [
        pair
        for k in range(first, end)
        for pair in ((f"{k:05d}.cls", str(LABELS[k]).encode()), (f"{k:05d}.png", files[k]))
    ]


def write_shards(path):
    (path / "shards").mkdir()
    write_tar(path / "shards" / "a-000000.tar", samples(0, 40))
    write_tar(path / "shards" / "a-000001.tar", samples(40))
    return path / "shards"


def write_tar_json(path):
    members = [
        pair
        for k in range(COUNT)
        for pair in (
            (f"./x/{k:05d}.jpg.png", FILES[k]),
            (f"./x/{k:05d}.json", json.dumps({"label": int(LABELS[k])}).encode()),
        )
    ]
    return write_tar(path / "images.tar", members)


def zipped(path, members, labels="none", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members:
            archive.writestr(name, data)
        if labels != "none":
            archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return path


def write_zip(path):
    names = [f"{k // 1000:05d}/img{k:08d}.png" for k in range(COUNT)]
    pairs = [[name, int(label)] for name, label in zip(names, LABELS, strict=True)]
    members = [*zip(names, FILES, strict=True)][::-1]
    return zipped(path / "dataset.zip", members, pairs, zipfile.ZIP_DEFLATED)


def table(files=FILES, labels=LABELS, features=None):
    found = pyarrow.table({"image": [{"bytes": data, "path": None} for data in files], "label": labels})
    meta = {"info": {"features": features or {"label": {"_type": "ClassLabel", "names": NAMES}}}}
    return found.replace_schema_metadata({"huggingface": json.dumps(meta)})


def write_parquet(path):
    (path / "hub" / "data").mkdir(parents=True)
    whole = table()
    for k in range(2):
        part = whole.slice(k * 30, 30)
        parquet.write_table(
            part, path / "hub" / "data" / f"train-0000{k}-of-00002.parquet", row_group_size=13
        )
    parquet.write_table(whole.slice(0, 5), path / "hub" / "data" / "test-00000-of-00001.parquet")
    return path / "hub"


def write_disk(path):
    """Write what `save_to_disk` does, as `test_a_saved_data_set_is_read` compares."""
    folder = path / "saved"
    folder.mkdir()
    for k in range(2):
        part = table().slice(k * 30, 30)
        with pyarrow.ipc.new_stream(folder / f"data-0000{k}-of-00002.arrow", part.schema) as file:
            file.write_table(part, max_chunksize=7)
    state = {"_data_files": [{"filename": f"data-0000{k}-of-00002.arrow"} for k in range(2)]}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


FORMS = [write_folder, write_shards, write_tar_json, write_zip, write_parquet, write_disk]


def load(text):
    return load_images(parse_dataset(str(text)))


@pytest.mark.parametrize("write", FORMS)
def test_every_form_gives_equal_images_and_labels(tmp_path, write, monkeypatch):
    monkeypatch.setenv("SAGD_CACHE", str(tmp_path / "cache"))
    text = str(write(tmp_path))
    found = load(text)
    np.testing.assert_array_equal(found.images, IMAGES, strict=True)
    np.testing.assert_array_equal(found.labels, LABELS, strict=True)
    assert found.class_names in ((), tuple(NAMES))
    np.testing.assert_array_equal(np.stack([*stream_images(parse_dataset(text))]), IMAGES)
    # Some alone, forwards and again from the start, and with the options that all forms share.
    some = [0, 1, 12, 13, 29, 30, 31, 50, 59]
    for _ in range(2):
        assert np.array_equal(np.stack([*open_images(parse_dataset(text)).images.at(some)]), IMAGES[some])
    small = load(f"{text},size=4,mode=grey,range=0:255")
    assert small.images.shape == (COUNT, 1, 4, 4)
    np.testing.assert_array_equal(
        small.images, load(f"{write_folder(tmp_path / 'b')},size=4,mode=grey").images
    )
    config = parse_dataset(text)
    assert KnownHash(config).sizes is not None
    assert [*dataset_files(config)]


def test_what_a_path_means_is_said_by_the_data_sets(tmp_path):
    write_folder(tmp_path)
    for name, form in {
        "a.tar": "tar",
        "A.TAR": "tar",
        "a.zip": "zip",
        "a.parquet": "hf",
        "a.npz": "npy",
    }.items():
        assert parse_dataset(str(tmp_path / name)).name == form
    # Images beside an archive are a folder of images.
    (tmp_path / "mixed").mkdir()
    save(tmp_path / "mixed" / "a.png", noise((4, 4, 1), "uint8"))
    write_tar(tmp_path / "mixed" / "b.tar", samples(0, 2))
    assert parse_dataset(str(tmp_path / "mixed")).name == "folder"
    assert load(tmp_path / "mixed").images.shape == (1, 1, 4, 4)


OF_IMAGES = {
    "class folders beside tar files": ["train.tar", "cat/a.png"],
    "class folders beside parquet": ["a.parquet", "cat/a.png"],
    "images beside data/": ["data/a.parquet", "a.png"],
    "class folders beside data/": ["data/a.parquet", "cat/a.png"],
    "images beside a state": ["state.json", "dataset_info.json", "a.png"],
    "class folders beside a state": ["state.json", "cat/a.png"],
    "class folders beside splits": ["dataset_dict.json", "cat/a.png"],
    "hidden images": [".thumbs/a.png", ".a.png", "b.tar"],
    "a state alone": ["state.json", "b.txt"],
    "a state of others beside parquet": ["state.json", "a.parquet"],
    "a saved set": ["state.json", "a.arrow"],
    "an empty saved set": ["state.json", "dataset_info.json"],
}


@pytest.mark.parametrize("kind", OF_IMAGES)
def test_a_folder_of_images_stays_one_whatever_lies_beside_them(tmp_path, kind):
    for name in OF_IMAGES[kind]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    others = {"hidden images": "tar", "a saved set": "hf", "an empty saved set": "hf"}
    others |= {"a state of others beside parquet": "hf"}
    assert parse_dataset(str(tmp_path)).name == others.get(kind, "folder")


@pytest.mark.parametrize("name", ["a.tar", "a.zip", "a.parquet"])
def test_files_that_are_not_there_or_are_something_else(tmp_path, name):
    with pytest.raises(UsageError, match=r"there is no .*a\."):
        load(tmp_path / name)
    (tmp_path / name).write_bytes(b"no archive at all" * 100)
    with pytest.raises(DataError, match=rf"{name} cannot be read as a"):
        load(tmp_path / name)
    with pytest.raises(UsageError, match="no held-out split"):
        load(f"{name.partition('.')[2].replace('parquet', 'hf')}:test,path={tmp_path / name}")


# Images of other depths and colour models are read as those of a folder are.


def test_deep_grey_and_cmyk_members_are_as_in_a_folder(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    save(folder / "a.png", noise((6, 6, 1), "uint16"))
    save(folder / "b.png", noise((6, 6, 3), "uint8"))
    Image.fromarray(noise((6, 6, 4), "uint8"), "CMYK").save(folder / "c.jpg")
    members = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    write_tar(tmp_path / "a.tar", members)
    zipped(tmp_path / "a.zip", members)
    parquet.write_table(pyarrow.table({"picture": [data for _, data in members]}), tmp_path / "a.parquet")
    expected = load(f"{folder},mode=rgb").images
    for name in ("a.tar", "a.zip", "a.parquet"):
        np.testing.assert_array_equal(load(f"{tmp_path / name},mode=rgb").images, expected)
        pairs = zip(stream_images(parse_dataset(str(tmp_path / name))), members, strict=True)
        assert [image.dtype.name for image, _ in pairs] == ["uint16", "uint8", "uint8"]
        with pytest.raises(DataError, match=r"is grey and .* is RGB"):
            load(tmp_path / name)


# tar


def test_a_broken_member_is_named_and_left_out_of_a_stream(tmp_path, said):
    files = [*FILES]
    files[2] = FILES[2][:40]
    path = write_tar(tmp_path / "a.tar", samples(0, 5, files))
    with pytest.raises(DataError, match=r"00002\.png in .*a\.tar is not a readable PNG file"):
        load(path)
    assert len([*stream_images(parse_dataset(str(path)))]) == 4
    assert "00002.png" in said()


@pytest.mark.parametrize("kind", ["truncated", "damaged", "joined", "endless"])
def test_an_archive_that_is_not_whole_is_named(tmp_path, said, kind):
    path = write_tar(tmp_path / "a.tar", samples(0, 5))
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as archive:
        third, last = archive.getmember("00002.png"), archive.getmember("00004.png")
    if kind == "truncated":
        data = data[: last.offset_data + 20]
    elif kind == "damaged":
        data[third.offset + 100 : third.offset + 160] = bytes(range(60))
    elif kind == "joined":
        data = data + data
    else:
        data = data[: last.offset_data + -(-last.size // 512) * 512]
    path.write_bytes(data)
    named = {
        "truncated": r"00004\.png in .*a\.tar is cut short",
        "damaged": r"a\.tar is damaged after 00002\.cls",
        "endless": r"a\.tar has no end after 00004\.png: it is cut short",
    }
    with pytest.raises(DataError, match=named.get(kind, r"a\.tar .* another archive was joined")):
        load(path)
    assert len([*stream_images(parse_dataset(str(path)))]) == {"damaged": 2}.get(kind, 4)
    assert "a.tar" in said()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.cls", b"three"), ("a.png", FILES[0])], r"a\.cls in .*a\.tar holds no class"),
        ([("a.json", b"{"), ("a.png", FILES[0])], r"a\.json in .*a\.tar is no JSON"),
        (
            [("a.cls", b"9" * 30), ("a.png", FILES[0])],
            r"a\.cls in .*a\.tar holds a class that is out of range",
        ),
        (
            [("a.json", b'{"label": -9223372036854775809}'), ("a.png", FILES[0])],
            r"a\.json in .*a\.tar holds a class that is out of range",
        ),
        ([("a.cls", b"-4"), ("a.png", FILES[0])], "labels of .* go from -4"),
        ([("a.cls", b"1"), ("a.png", FILES[0]), ("b.png", FILES[1])], "1 of the 2 images in .* have a class"),
        (
            [("a.png", FILES[0]), ("b.png", FILES[1]), ("a.cls", b"1")],
            r"a\.cls in .* is not beside its image",
        ),
        ([("a.x.png", FILES[0]), ("a.y.png", FILES[1])], r"several images of a sample: x\.png, y\.png"),
    ],
)
def test_samples_that_leave_doubt_are_refused(tmp_path, members, message):
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(DataError, match=message):
        load(path)


def test_one_image_of_several_can_be_chosen_and_links_lead_nowhere(tmp_path, said):
    path = write_tar(tmp_path / "a.tar", [("a.x.png", FILES[0]), ("a.y.png", FILES[1]), ("b.txt", b"b")])
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("c.y.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert np.array_equal(load(f"{path},image=y.png").images, IMAGES[1:2])
    words = said()
    assert "1 sample(s) without an image are left out" in words and "1 link(s) are left out" in words


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a.tar"])
def test_a_compressed_tar_is_refused_with_the_way_out(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(write_tar(tmp_path / "b.tar", samples(0, 2)).read_bytes()))
    with pytest.raises(DataError, match=rf"{name} is a compressed tar") as caught:
        load(path)
    assert caught.value.hint == "Unpack it with gunzip."


def test_an_archive_cut_between_an_image_and_its_class_is_cut_short(tmp_path):
    path = write_tar(
        tmp_path / "a.tar", [("a.png", FILES[0]), ("a.cls", b"1"), ("b.png", FILES[1]), ("b.cls", b"2")]
    )
    with tarfile.open(path) as archive:
        end = archive.getmember("b.cls").offset
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(DataError, match=r"a\.tar has no end after b\.png: it is cut short"):
        load(path)


# zip


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(2**20))
    with pytest.raises(DataError, match=r"a\.png in .*a\.zip is not an image"):
        load(path)
    data = path.read_bytes()
    size = (2**20).to_bytes(4, "little")
    assert data.count(size) == 2
    path.write_bytes(data.replace(size, (MAX_FILE_BYTES + 1).to_bytes(4, "little")))
    with pytest.raises(DataError, match=r"a\.png in .*a\.zip is larger than 1 GiB"):
        load(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["a.png", 0]], r"dataset\.json in .* has no label for b\.png"),
        ([["a.png", 0], ["b.png", [0.5, 1]]], r"\[0\.5, 1\], which is no integer"),
        ([["a.png", 0], ["b.png", -1]], "go from -1 to 0"),
        ([["a.png", 0], ["b.png", 10**6]], "go from 0 to 1000000"),
        ([["a.png", 0], ["b.png", 10**40]], "out of range"),
        ({"a.png": 3}, r"dataset\.json in .* is not"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path, labels, message):
    path = zipped(tmp_path / "a.zip", [("a.png", FILES[0]), ("b.png", FILES[1])], labels)
    with pytest.raises(DataError, match=message):
        load(path)


def test_a_zipped_store_is_refused(tmp_path):
    path = zipped(tmp_path / "a.zarr.zip", [("a.png", FILES[0])])
    assert parse_dataset(str(path)).name == "folder"
    with pytest.raises(DataError, match=r"a\.zarr\.zip"):
        load(path)


def test_labels_deeper_than_the_top_count_where_they_are_the_only_ones(tmp_path, said):
    document = json.dumps({"labels": [["0/a.png", 1], ["b.png", 0]]}).encode()
    members = [("set/0/a.png", FILES[0]), ("set/b.png", FILES[1])]
    found = load(zipped(tmp_path / "a.zip", [*members, ("set/dataset.json", document)]))
    assert found.labels.tolist() == [1, 0]
    twice = [*members, ("set/dataset.json", document), ("set/0/dataset.json", document)]
    assert load(zipped(tmp_path / "b.zip", twice)).labels is None
    assert load(zipped(tmp_path / "c.zip", members)).labels is None
    words = said()
    assert words.count("b.zip has 2 files dataset.json, none of them at its top, and uses none") == 1
    assert words.count("c.zip are no classes: dataset.json would tell them") == 1 and "a.zip" not in words


def test_names_in_a_zip_lead_nowhere(tmp_path, said):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../up.png", FILES[0])
        archive.writestr("__MACOSX/._up.png", b"resource")
        archive.writestr("model.bin", b"other")
        archive.writestr("dataset.json", '{"labels": null}')
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    found = load(path)
    assert np.array_equal(found.images, IMAGES[:1]) and found.labels is None
    assert "1 image(s); left out: 2 other file(s)" in said()


# Hugging Face


def test_a_saved_data_set_is_read_as_the_library_reads_it(tmp_path, monkeypatch):
    for name in ("HF_HOME", "HF_DATASETS_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"img": datasets.Image(), "kind": datasets.ClassLabel(names=NAMES)})
    rows = {"img": [{"bytes": data, "path": None} for data in FILES[:20]], "kind": LABELS[:20].tolist()}
    whole = datasets.Dataset.from_dict(rows, features=features)
    chosen = [3, 1, 19, 7]
    both = datasets.DatasetDict(train=whole, test=whole.select(chosen))
    both.save_to_disk(tmp_path / "saved")
    assert np.array_equal(load(tmp_path / "saved").images, IMAGES[:20])
    test = load(f"hf:test,path={tmp_path / 'saved'}")
    assert np.array_equal(test.images, IMAGES[chosen]) and test.class_names == tuple(NAMES)
    assert np.array_equal(load(tmp_path / "saved" / "test").labels, LABELS[chosen])
    both["test"].to_parquet(tmp_path / "test.parquet")
    assert np.array_equal(load(tmp_path / "test.parquet").images, IMAGES[chosen])


def test_columns_are_listed_where_none_is_meant(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["a"], "number": [1]}), path)
    with pytest.raises(
        UsageError, match=r"no column of images; its columns are text \(string\), number \(int64\)"
    ):
        load(path)
    with pytest.raises(UsageError, match=r"no column 'x'; its columns are text"):
        load(f"{path},column=x")
    with pytest.raises(DataError, match=r"column text \(string\) of .* holds no image files"):
        load(f"{path},column=text")
    parquet.write_table(pyarrow.table({"a": FILES[:2], "b": FILES[2:4], "n": [1, 0], "t": ["x", "y"]}), path)
    with pytest.raises(UsageError, match="2 columns of images") as caught:
        load(path)
    assert caught.value.hint == "Say which with column=a."
    found = load(f"{path},column=b,labels=n")
    assert np.array_equal(found.images, IMAGES[2:4]) and found.labels.tolist() == [1, 0]
    with pytest.raises(DataError, match=r"column t \(string\) of .* holds no integers"):
        load(f"{path},column=b,labels=t")
    with pytest.raises(ConfigError):
        load(f"{path},columns=b")


def test_cells_and_shards_that_lack_something_are_named(tmp_path, said):
    cells = [{"bytes": FILES[0], "path": "a"}, {"bytes": None, "path": "/etc/passwd"}, None]
    parquet.write_table(pyarrow.table({"image": cells, "label": [-1, -1, -1]}), tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match=r"row 1 in .* holds the path of an image.*row 2 in .* holds no image"
    ):
        load(tmp_path / "a.parquet")
    assert len([*stream_images(parse_dataset(str(tmp_path / "a.parquet")))]) == 1
    assert open_images(parse_dataset(str(tmp_path / "a.parquet"))).labels is None
    folder = write_parquet(tmp_path)
    assert len(load(f"hf:test,path={folder}").images) == 5
    with pytest.raises(DataError, match=r"labels of .* go from 0 to 2, not from 0 to at most 1"):
        features = {"label": {"_type": "ClassLabel", "names": NAMES[:2]}}
        parquet.write_table(table(features=features), tmp_path / "b.parquet")
        load(tmp_path / "b.parquet")
    (folder / "data" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(DataError, match="holds 1 of the 2 files of train"):
        load(folder)


def test_a_state_names_files_beside_it_only(tmp_path):
    folder = write_disk(tmp_path)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "../x.arrow"}]}')
    with pytest.raises(DataError, match=r"names \.\./x\.arrow, which is not beside it"):
        load(folder)
    (folder / "state.json").write_text("[")
    with pytest.raises(DataError, match=r"state\.json cannot be read as JSON"):
        load(folder)
    (folder / "dataset_dict.json").write_text('{"splits": ["val"]}')
    with pytest.raises(UsageError, match="has no split train; its splits are val"):
        load(folder)


def test_classes_that_do_not_fit_are_out_of_range(tmp_path):
    path = tmp_path / "a.parquet"
    for label in (2**64 - 1, 2**63):
        labels = pyarrow.array([0, label], pyarrow.uint64())
        parquet.write_table(pyarrow.table({"image": FILES[:2], "label": labels}), path)
        with pytest.raises(DataError, match=r"column label of .*a\.parquet has values that are out of range"):
            load(path)


def test_classes_that_are_texts_are_not_used_and_named(tmp_path, said):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"image": FILES[:2], "label": ["ape", "bat"]}), path)
    assert load(path).labels is None
    assert said().count("the column label (string) of") == 1


def test_damaged_tables_are_named(tmp_path):
    folder = write_disk(tmp_path)
    last = folder / "data-00001-of-00002.arrow"
    last.write_bytes(last.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow cannot be read as a table"):
        load(folder)


def test_without_the_extra_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(UsageError, match="the package datasets is not installed") as caught:
        load(path)
    assert 'pip install "sagd[hf]"' in caught.value.hint


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_squares_of_jpeg_files_are_the_same_wherever_the_files_lie(tmp_path, suffix):
    """They are decoded no larger than needed, which gives other values than decoding them whole."""
    smooth = np.random.default_rng(1).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
    files = []
    for field in smooth:
        file = io.BytesIO()
        Image.fromarray(field).resize((80, 72), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    names = [f"{k:05d}.{suffix}" for k in range(len(files))]
    (tmp_path / "folder").mkdir()
    for name, data in zip(names, files, strict=True):
        (tmp_path / "folder" / name).write_bytes(data)
    members = [*zip(names, files, strict=True)]
    parquet.write_table(table(files, np.zeros(len(files), int)), tmp_path / "rows.parquet", row_group_size=7)
    paths = [
        tmp_path / "folder",
        write_tar(tmp_path / "images.tar", members),
        zipped(tmp_path / "images.zip", members),
        tmp_path / "rows.parquet",
    ]
    first, *others = [load_images(parse_dataset(f"{path},size=8")).images for path in paths]
    whole = np.stack([np.moveaxis(np.asarray(Image.open(io.BytesIO(data))), 2, 0) for data in files])
    np.testing.assert_array_equal(load_images(parse_dataset(str(paths[0]))).images, whole)
    for other in others:
        np.testing.assert_array_equal(other, first)
