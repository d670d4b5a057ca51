"""The Mandarin of `sentences`: words, and a maker for each type of sentence."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["MAKERS", "number"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# fmt: off
_PEOPLE = _words("""老师 医生 邻居 孩子们 爷爷 奶奶 司机 同学 船长 厨师 画家 农民 警察 演员 记者 护士 经理
售货员 工程师 诗人 木匠 裁缝 邮递员 舅舅 姑姑 客人 校长 将军 渔夫 猎人 和尚 皇帝 律师 歌手 运动员 翻译 导游 房东
园丁 教练""")
_SURNAMES = _words("""王 李 张 刘 陈 杨 黄 赵 吴 周 徐 孙 马 朱 胡 林 郭 何 高 罗 郑 梁 谢 宋 唐 许 邓 冯 韩 曹 彭
曾 肖 田 董 潘 袁 蔡 蒋 余 杜 叶 程 魏 苏 吕 丁 任 沈 姚 卢 傅 钟 姜 崔 谭 廖 范 汪 陆 金 石 戴 贾 韦 夏 邱 方
侯 邹 熊 孟 秦 白 江 阎 薛 尹""")
_GIVEN = _words("""明 丽 强 芳 伟 静 磊 娜 洋 艳 勇 敏 杰 娟 涛 秀英 超 霞 平 刚 桂英 建国 晓东 志强 玉兰 文博
雨桐 子轩 思远 欣怡 浩然 海燕 春梅 国庆 立新 红梅 永福 佳琪 俊凯 若兰 天宇 诗雅 宏达 美玲 少华 慧敏 振宇 云飞""")
_THINGS = _words("""自行车 雨伞 钥匙 照片 箱子 苹果 地图 石头 毛衣 帽子 灯笼 小提琴 钢琴 鞋子 报纸 信封 茶壶
花瓶 窗帘 镜子 桌子 椅子 被子 手表 眼镜 相机 机器 轮船 风筝 蜡烛 篮子 锤子 剪刀 针线 铅笔 橡皮 词典 日记 故事书
古画 玉镯 瓷碗 竹筐 葡萄 西瓜 核桃 蘑菇 萝卜 豆腐 馒头 饺子 鸭子 兔子 蝴蝶 金鱼 骆驼 猴子 老虎 熊猫 乌龟 孔雀""")
_ADJECTIVES = _words("""漂亮 破旧 沉重 奇怪 新鲜 古老 干净 贵重 普通 柔软 坚硬 鲜艳 巨大 小巧 弯曲 空荡荡 热乎乎
冰凉 有趣 难看 光滑 粗糙 结实 神秘 安静 明亮 昏暗 湿漉漉 毛茸茸 便宜""")
_VERBS = _words("""买了 卖掉了 找到了 修好了 弄丢了 打开了 藏起了 画出了 借走了 送来了 举起了 忘记了 看见了
搬走了 洗干净了 拿错了 扔掉了 捡到了 收下了 摔坏了 数清了 带回了 挑选了 介绍了 拍下了 保护了 研究了 欣赏了
放下了 换掉了""")
_BARE = _words("""买 卖 找 修理 打开 藏 画 借 送 举起 忘记 搬 洗 拿 扔 捡 收下 数 带走 挑选 介绍 拍 保护 研究
欣赏 放下 换""")
_STAY = _words("""笑了 睡着了 哭了 跑了 等了很久 唱起歌来 摇了摇头 站了起来 坐下休息 回家了 迷路了 生气了
跳起舞来 停下了脚步 叹了一口气 打了个喷嚏 沉默了 点了点头 转过身去 吓了一跳""")
_PLACES = _words("""在学校门口 在河边 在老桥下面 在图书馆里 在厨房里 在山顶上 在火车站 在菜市场 在院子里
在十字路口 在树林中 在海滩上 在三楼的走廊 在博物馆旁边 在茶馆里 在屋顶上 在城墙外 在隔壁的房间 在湖心的小岛
在村口""")
_TIMES = _words("""昨天晚上 今天早晨 上个星期 去年冬天 下雨之前 天黑以后 每个周末 春节的时候 三天以前 刚才
吃完饭以后 夏天的夜里 月底 放学以后 黎明时分 中秋节那天 很久以前 火车开动的时候 下课铃响的时候 冬至那天""")
_LATER = _words("""下雨之前 天黑以后 周末 春节的时候 吃完饭以后 月底 放学以后 上课的时候 火车开动的时候
冬至那天""")
_CITIES = _words("""北京 上海 广州 成都 西安 南京 杭州 武汉 重庆 天津 苏州 青岛 昆明 厦门 哈尔滨 长沙 兰州 拉萨
大连 桂林""")
_FEELINGS = _words("漂亮 可怕 可笑 感人 奇妙 无聊 精彩 危险 可惜 幸运 热闹 冷清")
_GOODS = _words("""面包 牛奶 鸡蛋 白糖 酱油 大米 茶叶 蜂蜜 生姜 辣椒 土豆 香蕉 橘子 桃子 毛巾 肥皂 纽扣 绳子
钉子 邮票 电池 火柴 粉笔 棉花 羊毛 花生 黄瓜 白菜 咖啡 饼干""")
_UNITS = _words("本书 张票 公里 块钱 个人 辆车 封信 棵树 间房子 分钟 级台阶 只羊 条鱼 瓶水 把椅子")
_SAY = _words("说 问 喊道 小声说 回答 解释说 坚持说 叹着气说 笑着说 提醒大家")
_LINKS = (("因为", "所以"), ("虽然", "但是"), ("只要", "就知道"), ("如果", "那么"), ("不但", "而且"), ("既然", "想必"))
_DIGITS = "零一二三四五六七八九"
# fmt: on


def number(value: int) -> str:
    """A whole number below one hundred million in characters (十五, 三百零二, 一万两千)."""
    if value >= 10_000:
        rest = value % 10_000
        tail = "" if not rest else ("零" if rest < 1000 else "") + number(rest)
        return f"{number(value // 10_000)}万{tail}"
    if value < 20:
        return _DIGITS[value] if value < 10 else "十" + (_DIGITS[value % 10] if value % 10 else "")
    text, pending = "", False
    for unit, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = value // unit % 10
        if digit:
            text += ("零" if pending else "") + _DIGITS[digit] + name
        pending = bool(text) and not digit
    return text


def _some_number(rng: random.Random) -> str:
    return number(rng.randrange(3, 10 ** rng.randint(1, 5)))


def _name(rng: random.Random) -> str:
    given = rng.choice(_GIVEN) if rng.random() < 0.7 else rng.choice(_GIVEN)[0] + rng.choice(_GIVEN)[0]
    return rng.choice(_SURNAMES) + given


def _who(rng: random.Random) -> str:
    if rng.random() < 0.35:
        return _name(rng)
    return rng.choice(("", "", "那位", "我的", "隔壁的", "年轻的", "新来的")) + rng.choice(_PEOPLE)


def _thing(rng: random.Random) -> str:
    phrase = f"{rng.choice(_ADJECTIVES)}的{rng.choice(_THINGS)}" if rng.random() < 0.7 else rng.choice(_THINGS)
    return rng.choice(("", "", "那些", "这个", "你的", "一堆", "别人的")) + phrase


def _clause(rng: random.Random) -> str:
    """Somebody did something, without a final mark."""
    who, before = _who(rng), ""
    if (roll := rng.random()) < 0.35:
        before = rng.choice(_PLACES)
    elif roll < 0.65:
        before = rng.choice(_TIMES)
    if rng.random() < 0.3:
        return f"{who}{before}{rng.choice(_STAY)}"
    return f"{who}{before}{rng.choice(_VERBS)}{_thing(rng)}"


def _statement(rng: random.Random) -> str:
    return f"{_clause(rng)}。"


def _question(rng: random.Random) -> str:
    return rng.choice(
        (
            lambda: f"{_clause(rng)}吗？",
            lambda: f"{_who(rng)}为什么要{rng.choice(_BARE)}{_thing(rng)}？",
            lambda: f"请问在哪里可以{rng.choice(_BARE)}{_thing(rng)}？",
            lambda: f"是谁{rng.choice(_PLACES)}{rng.choice(_VERBS)}{_thing(rng)}？",
            lambda: f"{_thing(rng)}真的比{_thing(rng)}更{rng.choice(_FEELINGS)}吗？",
            lambda: f"你知不知道{_clause(rng)}？",
        )
    )()


def _exclamation(rng: random.Random) -> str:
    return rng.choice(
        (
            lambda: f"多么{rng.choice(_FEELINGS)}的{rng.choice(_THINGS)}啊！",
            lambda: f"快看，{_clause(rng)}！",
            lambda: f"千万别{rng.choice(_LATER)}{rng.choice(_BARE)}{_thing(rng)}！",
            lambda: f"{_clause(rng)}，真是太{rng.choice(_FEELINGS)}了！",
        )
    )()


def _list(rng: random.Random) -> str:
    items = rng.sample(_GOODS, rng.randint(3, 6))
    verb = rng.choice(("买了", "带来了", "需要", "卖掉了", "忘了拿", "准备了"))
    return f"{_who(rng)}{rng.choice(_TIMES)}{verb}{'、'.join(items[:-1])}和{items[-1]}。"


def _numbers(rng: random.Random) -> str:
    return rng.choice(
        (
            lambda: f"{_who(rng)}{rng.choice(_PLACES)}一共数了{_some_number(rng)}{rng.choice(_UNITS)}。",
            lambda: f"价格从{_some_number(rng)}块涨到了{_some_number(rng)}块。",
            lambda: f"{_name(rng)}出生在一九{_DIGITS[rng.randrange(2, 10)]}{_DIGITS[rng.randrange(10)]}年。",
            lambda: f"请翻到第{_some_number(rng)}页，从第{number(rng.randrange(1, 60))}行开始读。",
            lambda: f"{_some_number(rng)}{rng.choice(_UNITS)}里面，只剩下{number(rng.randrange(3, 90))}个。",
        )
    )()


def _names(rng: random.Random) -> str:
    return rng.choice(
        (
            lambda: f"{_name(rng)}和{_name(rng)}一起从{'坐车去'.join(rng.sample(_CITIES, 2))}。",
            lambda: f"住在{rng.choice(_CITIES)}的{_name(rng)}{rng.choice(_VERBS)}{_thing(rng)}。",
            lambda: f"你去问问{_name(rng)}，{_name(rng)}还在不在{rng.choice(_CITIES)}。",
        )
    )()


def _quote(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return f"“{_clause(rng)}，”{_name(rng)}{rng.choice(_SAY)}。"
    return f"{_name(rng)}{rng.choice(_SAY)}：“{_clause(rng)}。”"


def _long(rng: random.Random) -> str:
    first, second = rng.choice(_LINKS)
    return rng.choice(
        (
            lambda: f"{first}{_clause(rng)}，{second}{_clause(rng)}，{_clause(rng)}。",
            lambda: f"{rng.choice(_TIMES)}，{_clause(rng)}，{_clause(rng)}；谁也没有想到，{_clause(rng)}。",
            lambda: f"{first}{_clause(rng)}，{second}{_clause(rng)}，后来{_clause(rng)}。",
        )
    )()


MAKERS: dict[str, Callable[[random.Random], str]] = {
    "statement": _statement,
    "question": _question,
    "exclamation": _exclamation,
    "list": _list,
    "number": _numbers,
    "name": _names,
    "quote": _quote,
    "long": _long,
}
